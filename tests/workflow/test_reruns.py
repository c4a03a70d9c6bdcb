"""What an edit repeats, and what it leaves alone. Plans only: nothing is run, every edit is put back."""

from __future__ import annotations

from .conftest import STUDY, Checkout

LAST_MILE = ["aggregate", "draw_figures", "draw_tables"]


def test_comment_repeats_nothing(chain: Checkout) -> None:
    comment = '"""', '"""# '
    with (
        chain.edited("src/mtrepro/methods/mt_sac.py", *comment),
        chain.edited("src/mtrepro/training.py", *comment),
        chain.edited("src/mtrepro/analysis/aggregate.py", "import functools", "import functools  # why"),
    ):
        assert chain.plan() == []


def test_edit_to_a_method_repeats_only_its_runs(chain: Checkout) -> None:
    with chain.edited("src/mtrepro/methods/random_policy.py", "\nclass ", "\nEDITED = True\n\n\nclass "):
        assert chain.plan() == [*LAST_MILE, "train random_policy-s0", "train random_policy-s1"]


def test_edit_to_the_workflow_repeats_nothing(chain: Checkout) -> None:
    with (
        chain.edited("workflow/rules/train.smk", "mtrepro train {input", "mtrepro  train {input"),
        chain.edited("src/mtrepro/planning.py", "import annotations", "import annotations\n\nEDITED = True"),
        chain.edited(STUDY, "tries: 3", "tries: 4"),
        chain.edited(STUDY, "budget: 120", "budget: 120  # a comment"),
    ):
        assert chain.plan() == []


def test_new_seed_trains_only_itself(chain: Checkout) -> None:
    with chain.edited(STUDY, "seeds: [0, 1]", "seeds: [0, 1, 2]"):
        runs = ["specify mt_sac-s2", "specify random_policy-s2", "train mt_sac-s2", "train random_policy-s2"]
        assert chain.plan() == sorted([*LAST_MILE, "manifest", *runs])


def test_new_title_redraws_and_trains_nothing(chain: Checkout) -> None:
    with chain.edited(STUDY, "A toy study", "Another title"):
        assert chain.plan() == sorted([*LAST_MILE, "manifest"])


def test_lost_run_is_trained_again_and_no_other(chain: Checkout) -> None:
    (run,) = (chain.path / "results/toy").glob("mt_sac-s1-*")
    run.rename(chain.path / "lost")
    try:
        assert chain.plan("runs") == ["specify mt_sac-s1", "train mt_sac-s1"]
    finally:
        (chain.path / "lost").rename(run)
