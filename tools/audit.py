"""Ask the OSV database for known vulnerabilities of every version in requirements.lock and tools/uv.txt.

Usage: python tools/audit.py [--strict], from the root of the checkout. One request, and no package that would itself
have to be locked. Where the service cannot be reached it prints `audit: skipped`: lint works without a network.

It leaves with 1 under `--strict` alone: what became known overnight must be seen, and is no fault of today's change.

A known vulnerability that does not concern mtrepro is accepted by name and with a reason in pyproject.toml:

    [tool.mtrepro.audit]
    GHSA-xxxx-xxxx-xxxx = "in a server that nobody here starts"
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

from mtrepro.lock import read_lock

SERVICE = "https://api.osv.dev/v1/querybatch"  # documented at https://google.github.io/osv.dev/post-v1-querybatch/
LOCKS = ("requirements.lock", "tools/uv.txt")
SECONDS = 20


def main(strict: bool = False) -> int:
    """Print what is known; with `strict` the exit status is 1 where something is that nobody accepted."""
    versions = [pinned for lock in LOCKS for pinned in sorted(read_lock(Path(lock)).versions.items())]
    service = os.environ.get("MTREPRO_AUDIT_SERVICE") or SERVICE
    try:
        results = ask(service, versions)
    # urllib's errors are OSErrors; a gateway's page is no JSON.
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        print(f"audit: skipped: {service} not reachable ({reason})")
        return 0
    accepted = accepted_reasons()
    known = {identity for its in results for identity in its}
    found = 0
    for (name, version), identities in zip(versions, results, strict=True):
        for identity in identities:
            reason = accepted.get(identity)
            found += reason is None
            verdict = f"accepted: {reason}" if reason else "not accepted"
            print(f"audit: {name} {version}: {identity} (https://osv.dev/{identity}): {verdict}")
    for identity in sorted(accepted.keys() - known):
        print(f"audit: {identity} is accepted in pyproject.toml, but nothing has it any more: remove the line")
    print(f"audit: {len(versions)} packages, {found} vulnerabilities that nobody accepted")
    if found:
        print("audit: `make lock` takes newer versions; or accept it with its reason in [tool.mtrepro.audit]")
    return int(strict and found > 0)


def ask(service: str, versions: list[tuple[str, str]]) -> list[list[str]]:
    """The identities of the vulnerabilities of each package and version, in order.

    Raises:
        OSError: the service cannot be reached.
        ValueError: it answers something else than what it documents.
    """
    queries = [{"package": {"name": name, "ecosystem": "PyPI"}, "version": version} for name, version in versions]
    request = urllib.request.Request(
        service, json.dumps({"queries": queries}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        content: Any = json.load(answer)
    try:
        results = [[its["id"] for its in result.get("vulns") or []] for result in content["results"]]
    except (KeyError, TypeError, AttributeError):
        raise ValueError("the answer is not that of an OSV service") from None
    if len(results) != len(versions):
        raise ValueError(f"{len(results)} answers to {len(versions)} questions")
    return results


def accepted_reasons() -> dict[str, str]:
    """The accepted vulnerabilities and why."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    reasons: dict[str, str] = project.get("tool", {}).get("mtrepro", {}).get("audit", {})
    return reasons


if __name__ == "__main__":
    sys.exit(main(strict="--strict" in sys.argv[1:]))
