"""How fast it is here: `python -m tests.bench`, or `make bench`. Prints and writes JSON; never judges a time."""

from __future__ import annotations

import argparse
from pathlib import Path

from mtrepro.paths import root, shown
from tests.bench import (
    checkpoint,
    dreamer,
    environments,
    family,
    identity,
    imagination,
    keeping,
    pixels,
    seeds,
    starts,
    training,
    update,
)
from tests.bench.measuring import FULL, QUICK, record, write
from tests.bench.showing import document, show

# The environments come first: stock Gymnasium forks, which is best done before torch has threads.
TOPICS = {
    "environments": environments.measure,
    "identity": identity.measure,
    "starts": starts.measure,
    "update": update.measure,
    "family": family.measure,
    "seeds": seeds.measure,
    "dreamer": dreamer.measure,
    "imagination": imagination.measure,
    "pixels": pixels.measure,
    "training": training.measure,
    "keeping": keeping.measure,
    "checkpoint": checkpoint.measure,
}


def main() -> None:
    """Measure what is asked for, or write what was measured into docs/performance.md."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"all, or some of: {', '.join(TOPICS)}")
    parser.add_argument("--quick", action="store_true", help="fewer repeats and a small checkpoint: half a minute")
    parser.add_argument("--output", type=Path, default=root() / "results" / "bench", help="folder of the JSON files")
    parser.add_argument(
        "--document",
        action="store_true",
        help="write the last full run, of the topics named or all, into docs/performance.md",
    )
    options = parser.parse_args()
    if unknown := sorted(set(options.topics) - set(TOPICS)):
        parser.error(f"unknown topic {', '.join(unknown)}; known: {', '.join(TOPICS)}")
    if options.document:
        document(options.output, root() / "docs" / "performance.md", list(TOPICS), options.topics)
        return
    for topic in options.topics or TOPICS:
        content = record(topic, QUICK if options.quick else FULL, TOPICS[topic])
        show(content)
        print(f"{shown(write(content, options.output))}\n", flush=True)


if __name__ == "__main__":
    main()
