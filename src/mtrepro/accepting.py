"""`mtrepro accept`: a person says that an edit changes no result, so that finished runs need not be repeated."""

from __future__ import annotations

import json
from pathlib import Path

from mtrepro.errors import SpecificationError
from mtrepro.paths import root, shown
from mtrepro.source import accept, accepted_digest, run_source
from mtrepro.study import load_study


def accept_study(path: Path, reason: str) -> None:
    """Record, for every finished run of a study, that today's code gives the result that the run has.

    run.json is not touched: it keeps the digest of the code that the run really had.

    Raises:
        SpecificationError: no reason is given, or no finished run differs from today's code.
    """
    if not reason.strip():
        raise SpecificationError("accept: --reason must say why the edit changes no result")
    resolved = load_study(path)
    pairs: dict[str, str] = {}
    for run in resolved.runs:
        file = root() / resolved.results / run.name / "run.json"
        if file.exists():
            today = run_source(run.specification.method, run.specification.benchmark["family"]).digest()
            then = json.loads(file.read_text())["source_digest"]
            if accepted_digest(today) != accepted_digest(then):
                pairs[today] = then
    if not pairs:
        raise SpecificationError(f"{shown(path)}: no finished run was made by other code than today's")
    print(f"recorded {len(pairs)} accepted source digests in {shown(accept(pairs, reason))}")
