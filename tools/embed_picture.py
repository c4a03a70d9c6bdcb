"""Put a mermaid graph from standard input between the picture marks of Markdown files, or check that it stands there.

Usage: snakemake --rulegraph mermaid-js all | python tools/embed_picture.py (--write | --check) FILE...
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

MARKS = re.compile(r"(<!-- picture: begin[^\n]*-->\n).*?(<!-- picture: end -->)", re.DOTALL)


def main() -> int:
    """Write or check; the exit status is 1 where a file is not current."""
    mode, *names = sys.argv[1:]
    block = f"```mermaid\n{picture(sys.stdin.read())}```\n"
    stale = []
    for path in map(Path, names):
        text = path.read_text(encoding="utf-8")
        current, count = MARKS.subn(lambda match: match[1] + block + match[2], text)
        if count != 1:
            print(
                f"{path}: needs one pair of lines `<!-- picture: begin -->` and `<!-- picture: end -->`",
                file=sys.stderr,
            )
            return 1
        if current != text:
            stale.append(path)
            if mode == "--write":
                path.write_text(current, encoding="utf-8")
    if mode == "--check" and stale:
        print(
            f"{', '.join(map(str, stale))}: the picture is not the rules' any more; run `make picture`",
            file=sys.stderr,
        )
        return 1
    return 0


def picture(graph: str) -> str:
    """The graph from left to right, in the reader's own colours, in an order that does not depend on chance."""
    lines = graph[graph.index("flowchart") :].splitlines()[1:]
    names = dict(re.findall(r"(id\d+)\[(\w+)\]", graph))
    edges = sorted((names[a], names[b]) for a, b in (re.findall(r"id\d+", line) for line in lines if "-->" in line))
    return "flowchart LR\n" + "".join(f"    {source} --> {target}\n" for source, target in edges)


if __name__ == "__main__":
    sys.exit(main())
