"""The source digest: exactly the code that a run imports, and no word of its comments."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtrepro import paths, source
from mtrepro.errors import SpecificationError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package whose files can be edited."""
    copy = tmp_path / "src" / "mtrepro"
    shutil.copytree(paths.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(source, "PACKAGE", copy)
    monkeypatch.setenv("MTREPRO_ROOT", str(tmp_path))
    (tmp_path / "config").mkdir()
    _forget()
    yield copy
    _forget()


def _forget() -> None:
    for cached in (source._read, source.run_source):
        cached.cache_clear()


def digest(method: str = "mt_sac", family: str = "toy") -> str:
    _forget()
    return source.run_source(method, family).digest()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_it_covers_the_loop_the_method_and_the_benchmark_and_what_they_import() -> None:
    modules = source.run_source("mt_sac", "toy").modules
    for needed in (
        "training",
        "methods.mt_sac",
        "benchmarks.toy",
        "benchmarks.vector",
        "engine.replay",
        "networks.mlp",
    ):
        assert f"mtrepro.{needed}" in modules
    for other in ("methods.random_policy", "benchmarks.metaworld", "running", "cli", "study", "analysis.aggregate"):
        assert f"mtrepro.{other}" not in modules


def test_packages_are_those_of_the_benchmark() -> None:
    assert {"mujoco", "metaworld"} <= set(source.run_source("mt_sac", "metaworld").packages)
    assert set(source.run_source("mt_sac", "toy").packages) == {"numpy", "torch"}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("soft_actor_critic/agent.py", "# eq. 7", "# equation seven"),
        ("soft_actor_critic/agent.py", '"""One update of', '"""Another docstring. One update of'),
        ("training.py", "\n\nclass Monitor", "\n\n\n\n\nclass Monitor"),
        ("methods/random_policy.py", "self.owed = 0", "self.owed = 7"),
        ("methods/care.py", "torch.relu", "torch.tanh"),
        ("embeddings.py", "DIGITS = 12", "DIGITS = 13"),
        ("networks/projected_layers.py", "torch.relu", "torch.tanh"),
        ("running.py", "COST_SHARE = 0.04", "COST_SHARE = 0.5"),
        ("errors.py", "status = 2", "status = 9"),
        ("soft_actor_critic/settings.py", 'description="gamma"', 'description="how much the future counts"'),
    ],
)
def test_words_and_other_peoples_code_do_not_count(package: Path, file: str, old: str, new: str) -> None:
    before = digest()
    edit(package / file, old, new)
    assert digest() == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("soft_actor_critic/agent.py", "log_probability - least", "log_probability + least"),
        ("methods/mt_sac.py", "2 * actions", "3 * actions"),
        ("networks/mlp.py", "nn.init.zeros_", "nn.init.ones_"),
        ("engine/replay.py", "self.added % self.steps", "0"),
        ("training.py", "self.step += 1", "self.step += 2"),
        ("benchmarks/toy.py", "SPEED = 0.2", "SPEED = 0.3"),
    ],
)
def test_code_that_the_run_imports_counts(package: Path, file: str, old: str, new: str) -> None:
    before = digest()
    edit(package / file, old, new)
    assert digest() != before


def test_a_method_that_builds_on_another_reruns_with_it(package: Path) -> None:
    def both() -> list[str]:
        _forget()
        return [source.run_source(method, "toy").digest() for method in ("care", "care_ptsl")]

    before = both()
    edit(package / "methods/care.py", "torch.relu", "torch.tanh")
    assert all(old != new for old, new in zip(before, both(), strict=True))


def test_differences_name_the_modules(package: Path) -> None:
    before = source.run_source("mt_sac", "toy").as_dict()
    edit(package / "networks/mlp.py", "nn.init.zeros_", "nn.init.ones_")
    _forget()
    assert source.run_source("mt_sac", "toy").differences(before) == ["mtrepro.networks.mlp"]


def test_a_broken_file_is_named_with_its_line(package: Path) -> None:
    edit(package / "networks/mlp.py", "def mlp(", "def mlp((")
    with pytest.raises(SpecificationError, match=r"mlp\.py:\d+: not valid Python: "):
        digest()


def test_what_a_type_checker_does_not_see_counts(package: Path) -> None:
    edit(
        package / "training.py",
        "if TYPE_CHECKING:\n",
        "if TYPE_CHECKING:\n    SPEED = 1\nelse:\n    SPEED = 2\n\nif TYPE_CHECKING:\n",
    )
    before = digest()
    edit(package / "training.py", "    SPEED = 1\n", "    SPEED = 7\n")
    assert digest() == before
    edit(package / "training.py", "    SPEED = 2\n", "    SPEED = 7\n")
    assert digest() != before


def test_a_package_that_runs_before_a_module_counts(package: Path) -> None:
    before = digest()
    (package / "networks" / "__init__.py").write_text("SPEED = 1\n")
    assert digest() != before
