"""What is freed, what is kept: real checkpoints of real runs."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import time
from pathlib import Path

import pytest

from mtrepro import cleaning, source
from mtrepro.cleaning import Cleaned, clean
from mtrepro.engine.holder import held_back
from mtrepro.engine.lease import Lease
from mtrepro.errors import MtreproError, OutputError
from mtrepro.head import awaited
from mtrepro.terminal import size
from tests.conftest import call
from tests.unit.study_fixture import LivedStudy

pytestmark = pytest.mark.xdist_group("lived")  # its runs are trained once
OTHER = "source-0123456789abcdef"


def of_today(study: LivedStudy, arm: str) -> list[Path]:
    """The folders of an arm's checkpoints but `OTHER`."""
    return [folder for folder in study.state(arm).glob("source-*") if folder.name != OTHER]


def leave_behind(study: LivedStudy, arm: str, name: str | None = None) -> Path:
    """Put long's checkpoints where `arm` would have them, in the folder of today's code or of the one named."""
    (saved,) = of_today(study, "long")
    return Path(shutil.copytree(saved, study.state(arm) / (name or saved.name)))


def bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def cleaned(study: LivedStudy, dry_run: bool = False) -> dict[str, Cleaned]:
    """What `clean` did, by arm."""
    arms = {study.name(arm): arm for arm in ("short", "exploding", "long", "longer", "never")}
    return {arms[run.run]: run for run in clean(study.study, dry_run)}


@pytest.mark.parametrize("arm", ["short", "exploding"])
def test_what_a_finished_run_left_behind_is_freed(lived: LivedStudy, arm: str) -> None:
    folder = leave_behind(lived, arm)
    (lived.state(arm) / "progress.json").write_text("{}")
    expected = bytes_of(folder)
    assert cleaned(lived)[arm] == Cleaned(lived.name(arm), expected, "done") and expected > 50_000
    assert [file.name for file in lived.state(arm).iterdir()] == ["lease.lock"]
    assert (lived.folder(arm) / "run.json").exists()


def test_an_unfinished_run_keeps_what_it_continues_from_and_loses_that_of_other_code(lived: LivedStudy) -> None:
    freed, (kept,) = leave_behind(lived, "long", OTHER), of_today(lived, "long")
    sizes = bytes_of(freed), bytes_of(kept)
    run = cleaned(lived)["long"]
    assert (run.freed, run.kept) == sizes
    assert (run.freed_because, run.kept_because) == ("of other code than today's", "its next try continues from it")
    assert kept.exists() and not freed.exists() and (lived.state("long") / "progress.json").exists()


def test_a_result_of_other_code_is_not_done_and_its_run_keeps_todays_state(lived: LivedStudy) -> None:
    record = lived.folder("short") / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"source_digest": "of other code"}))
    kept = leave_behind(lived, "short")
    assert cleaned(lived)["short"].kept_because == "its next try continues from it" and kept.exists()


def test_a_damaged_result_is_not_done(lived: LivedStudy) -> None:
    (lived.folder("short") / "run.json").write_text("{")
    kept = leave_behind(lived, "short")
    assert cleaned(lived)["short"].freed == 0 and kept.exists()


def test_a_dry_run_says_the_same_and_frees_nothing(lived: LivedStudy) -> None:
    leave_behind(lived, "short")
    leave_behind(lived, "long", OTHER)
    before = sorted(lived.root.rglob("*"))
    said = cleaned(lived, dry_run=True)
    assert sorted(lived.root.rglob("*")) == before
    assert cleaned(lived) == said and sorted(lived.root.rglob("*")) != before


# What is never touched


def test_a_run_that_somebody_trains_is_left_alone(lived: LivedStudy) -> None:
    kept = [leave_behind(lived, "short"), leave_behind(lived, "long", OTHER)]
    leases = [Lease(folder.parent, print) for folder in kept]
    who = f"process {os.getpid()} on {socket.gethostname()} trains it"
    assert {cleaned(lived)[arm].kept_because for arm in ("short", "long")} == {who}
    for lease in leases:
        lease.release()
    assert all(folder.exists() for folder in kept)
    assert cleaned(lived)["short"].freed and not any(folder.exists() for folder in kept)


def test_a_lock_alone_holds_too(lived: LivedStudy) -> None:
    kept = leave_behind(lived, "short")
    with held_back(lived.state("short")) as alone:
        assert alone
        assert cleaned(lived)["short"].kept_because == "it is in use, or its lease cannot be locked"
    assert kept.exists()


@pytest.mark.parametrize(("age", "freed"), [(1, False), (200, True)])
def test_another_machines_trainer_holds_while_its_heart_beats(lived: LivedStudy, age: float, freed: bool) -> None:
    folder, lease = leave_behind(lived, "short"), lived.state("short") / "lease.json"
    lease.write_text(json.dumps({"host": "another-machine", "process": 7, "heartbeat": 5.0}))
    os.utime(lease, (time.time() - age,) * 2)
    run = cleaned(lived)["short"]
    assert run.kept_because == ("" if freed else "process 7 on another-machine trains it")
    assert folder.exists() != freed


def test_a_damaged_lease_holds(lived: LivedStudy) -> None:
    leave_behind(lived, "short")
    (lived.state("short") / "lease.json").write_text("")
    said = "lease.json: not what a trainer writes; remove it if nobody trains the run"
    assert cleaned(lived)["short"].kept_because == said


def test_a_result_that_snakemake_would_make_again_keeps_its_state(lived: LivedStudy) -> None:
    kept, freed = leave_behind(lived, "short"), leave_behind(lived, "short", OTHER)
    output = f"results/runs/{lived.name('short')}/run.json"
    name = base64.urlsafe_b64encode(output.encode()).decode()
    marker = lived.root / ".snakemake/incomplete" / f"@{name[:20]}" / name[20:]  # as Snakemake cuts long names
    marker.parent.mkdir(parents=True)
    marker.touch()
    assert output in awaited()
    said = "Snakemake has not noted its result and would repeat it: start it first"
    assert cleaned(lived)["short"].kept_because == said
    assert kept.exists() and not freed.exists()
    marker.unlink()
    assert cleaned(lived)["short"].kept == 0 and not kept.exists()


# Refusals and words


def test_where_packages_are_missing_nothing_can_be_told_and_nothing_is_freed(
    lived: LivedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = leave_behind(lived, "short")
    without = source.Source({}, {"numpy": "2.4", "torch": source.NOT_INSTALLED})
    monkeypatch.setattr(cleaning, "run_source", lambda method, family: without)
    with pytest.raises(MtreproError) as caught:
        cleaned(lived)
    assert str(caught.value) == (
        "torch: not installed here, so it cannot be told which state is of today's code\n"
        "  call `mtrepro clean` where the runs train: in the same environment or container"
    )
    assert kept.exists()


def test_what_cannot_be_removed_is_named(lived: LivedStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_behind(lived, "short")

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(OutputError, match=r"source-\w+: cannot be removed: Permission denied\n  mend the permission"):
        cleaned(lived)


def test_cleaning_works_on_a_full_disk(lived: LivedStudy, full_disk: Path) -> None:
    leave_behind(lived, "short")
    shutil.copytree(lived.results / ".state", full_disk / ".state")
    shutil.rmtree(lived.results / ".state")
    (lived.results / ".state").symlink_to(full_disk / ".state")
    with (full_disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(b"0" * 4096):
            pass
    with pytest.raises(OSError, match="No space left"):
        (full_disk / "more").write_bytes(b"0" * 4096)
    assert cleaned(lived)["short"].freed > 50_000


def test_the_command_says_what_was_freed_of_each_run_and_how_much_that_is(lived: LivedStudy) -> None:
    freed = size(bytes_of(leave_behind(lived, "short")))
    said = call("clean", lived.study, "--dry-run").stdout
    assert said.splitlines()[0] == f"{lived.name('short')}: would free {freed} (done)"
    kept = [bytes_of(folder) for arm in ("long", "longer") for folder in lived.state(arm).glob("source-*")]
    said = call("clean", lived.study).stdout
    lines = [f"{lived.name('short')}: freed {freed} (done)"]
    for arm, count in zip(("long", "longer"), kept, strict=True):
        lines.append(f"{lived.name(arm)}: keeps {size(count)} (its next try continues from it)")
    assert said.splitlines() == [*lines, f"freed {freed}; {size(sum(kept))} kept"]


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (9949, "9.9 kB"), (9950, "10 kB"), (999_400, "999 kB"),
        (999_600, "1.0 MB"), (351_400_000, "351 MB"), (1_240_000_000, "1.2 GB"), (52_000_000_000, "52.0 GB"),
    ],
)  # fmt: skip
def test_sizes_read_as_a_person_says_them(count: int, words: str) -> None:
    assert size(count) == words
