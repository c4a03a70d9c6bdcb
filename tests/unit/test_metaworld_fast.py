"""The faster layer over Meta-World: the same bits as the package's own classes, which it leaves as they are."""

from __future__ import annotations

import gc
import warnings
import weakref
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mtrepro.benchmarks import metaworld_comparison
from mtrepro.benchmarks.loading import load_benchmark
from mtrepro.benchmarks.metaworld_environment import draw_goals
from mtrepro.benchmarks.metaworld_simulators import make_fast, make_stock, set_goal
from mtrepro.benchmarks.metaworld_tasks import COSTS, MT10, MT50
from mtrepro.errors import FastSimulatorError
from tests.metaworld_pair import Pair

Array = NDArray[Any]
MOVED_PARTS = {"body_pos", "site_pos"}  # what resets move in the model; the memory of starts knows the first


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the scripted policies say that their own actions will be clipped
        yield


@pytest.mark.parametrize("task", MT50)
def test_every_number_has_the_bits_of_the_packages_own(task: str) -> None:
    pair = Pair(task)
    before = {name: field.copy() for name, field in pair.model_fields()}
    pair.episode(0, "expert", 45)
    pair.version("v1")
    pair.episode(1, "random", 20)
    pair.episode(0, "expert", 25)  # a goal that was left for another comes again
    pair.version("v2")
    pair.episode(0, "random", 10)  # and twice in a row
    assert pair.fast.__dict__.keys() == pair.stock.__dict__.keys(), "attributes are a checkpoint's state"
    changed = {name for name, field in pair.model_fields() if field.tobytes() != before[name].tobytes()}
    assert changed <= MOVED_PARTS


def test_what_a_user_makes_beside_the_layer_is_the_packages_own() -> None:
    from metaworld import sawyer_xyz_env
    from metaworld.envs import sawyer_push_v3
    from metaworld.utils import reward_utils
    from scipy.spatial.transform import Rotation

    fast, stock = make_fast("push-v3", "v2"), make_stock("push-v3", "v2")
    assert isinstance(fast, sawyer_push_v3.SawyerPushEnvV3) and type(stock) is sawyer_push_v3.SawyerPushEnvV3
    assert type(stock.data).__module__.startswith("mujoco")
    for module in (sawyer_xyz_env, sawyer_push_v3):
        assert module.np is np and module.reward_utils is reward_utils
    assert sawyer_push_v3.Rotation is Rotation and np.linalg.norm.__module__ == "numpy.linalg"
    for function in (stock.compute_reward, stock._gripper_caging_reward):
        assert function.__globals__["np"] is np


@pytest.mark.parametrize("order", [(False, True), (True, False)], ids=["fast to stock", "stock to fast"])
def test_a_state_goes_on_in_the_other_simulator(order: tuple[bool, bool]) -> None:
    values = {"tasks": ["basketball-v3", "door-lock-v3"], "protocol": "2020", "goals": "random", "horizon": 30}
    one, other = (load_benchmark("metaworld", values, 0, stock) for stock in order)
    actions = np.random.default_rng(0).uniform(-1, 1, (60, 4)).astype(np.float32)
    for task in range(2):
        first, second = one.make(task, "training"), other.make(task, "training")
        first.reset()
        second.reset()
        for count, action in enumerate(actions):
            if count == 14:
                second.load_state(first.state())
            steps = [environment.step(action) for environment in ((first, second) if count >= 14 else (first,))]
            assert len({(step.observation.tobytes(), *step[1:]) for step in steps}) == 1
            if steps[0].truncated:
                assert first.reset().tobytes() == second.reset().tobytes()


def test_stock_makes_the_packages_own_classes_and_draws_the_same_goals() -> None:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    stock: Any = load_benchmark("metaworld", {"tasks": ["soccer-v3"], "protocol": "v3"}, 0, stock=True)
    assert type(stock.make(0, "training")._simulator) is ALL_V3_ENVIRONMENTS["soccer-v3"]
    fast: Any = load_benchmark("metaworld", {"tasks": ["soccer-v3"], "protocol": "v3"}, 0)
    np.testing.assert_array_equal(fast.goals(0), stock.goals(0))


def test_a_simulator_that_nobody_holds_is_freed() -> None:
    simulator = make_fast("push-v3", "v2")
    set_goal(simulator, "push-v3", draw_goals("push-v3", np.random.default_rng(0), 1)[0])
    simulator.reset()
    simulator.step(np.zeros(4, np.float32))
    data = weakref.ref(simulator.data)
    simulator.close()
    del simulator
    gc.collect()
    assert data() is None, "each holds more than 20 MB"


def test_names_are_written_through_to_mujoco() -> None:
    data = make_fast("reach-v3", "v2").data
    data.site("goal").xpos = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(data.site_xpos[data.site("goal").id], [1.0, 2.0, 3.0])
    assert data.body("hand").name == "hand" and data.body("hand").xquat.shape == (4,)
    with pytest.raises(KeyError, match="nowhere"):
        data.body("nowhere")


# Remembered starts


def settled(task: str, goals: Array, order: list[int], forget: bool) -> list[bytes]:
    simulator = make_fast(task, "v2")
    starts = []
    for goal in order:
        if forget:
            type(simulator).settling._memory.clear()
        set_goal(simulator, task, goals[goal])
        starts.append(simulator.reset()[0].tobytes())
        simulator.step(np.ones(4, np.float32))
    return starts


def test_a_remembered_start_has_the_bits_of_a_settled_one_and_basketball_remembers_too() -> None:
    for task in ("door-open-v3", "basketball-v3"):
        goals = draw_goals(task, np.random.default_rng(0), 3)
        order = [0, 1, 0, 2, 1, 0, 2]
        assert settled(task, goals, order, forget=True) == settled(task, goals, order, forget=False)
        memory = type(make_fast(task, "v2")).settling._memory
        # Basketball moves a site further at each reset; were sites in the key, no start would ever come again.
        assert len(memory) <= 4


def test_the_memory_of_starts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from mtrepro.benchmarks import metaworld_settling

    monkeypatch.setattr(metaworld_settling, "LIMIT", 2)
    goals = draw_goals("door-open-v3", np.random.default_rng(1), 5)
    type(make_fast("door-open-v3", "v2")).settling._memory.clear()
    settled("door-open-v3", goals, [0, 1, 2, 3, 4], forget=False)
    assert len(type(make_fast("door-open-v3", "v2")).settling._memory) == 2


def test_trouble_on_the_way_to_a_start_is_met_again_and_never_remembered() -> None:
    simulator = make_fast("push-v3", "v2")
    set_goal(simulator, "push-v3", draw_goals("push-v3", np.random.default_rng(0), 1)[0])
    memory = type(simulator).settling._memory
    for _ in range(2):
        memory.clear()
        simulator.model.opt.gravity[:] = 1e30  # the arm flies apart
        simulator.reset()
        assert simulator.data.warning.number.any() and not memory


# The comparison at a run's start


def test_a_run_compares_and_finds_nothing_here() -> None:
    load_benchmark("metaworld", {"tasks": list(MT10[:2]), "protocol": "2020"}, 0).check()


def test_changed_code_of_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from metaworld.sawyer_xyz_env import SawyerXYZEnv

    def _get_obs(self: Any) -> Any:
        return np.zeros(39)

    monkeypatch.setattr(SawyerXYZEnv, "_get_obs", _get_obs)
    with pytest.raises(
        FastSimulatorError, match=r"metaworld 3.*: SawyerXYZEnv._get_obs is not what .*\n.*--simulator stock"
    ):
        load_benchmark("metaworld", {"tasks": ["reach-v3"], "protocol": "v3"}, 0).check()


def test_a_number_that_differs_is_named_with_its_task_and_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(task: str, reward_version: str) -> Any:
        simulator = make_fast(task, reward_version)
        simulator.model.dof_damping[0] *= 1.001
        return simulator

    monkeypatch.setattr(metaworld_comparison, "make_fast", off)
    with pytest.raises(
        FastSimulatorError, match=r"differs from the package's own in reach-v3, after the reset:\n  the obs"
    ):
        load_benchmark("metaworld", {"tasks": ["reach-v3"], "protocol": "v3"}, 0).check()
    load_benchmark("metaworld", {"tasks": ["reach-v3"], "protocol": "v3"}, 0, stock=True).check()


def test_every_task_has_a_measured_cost() -> None:
    assert COSTS.keys() == set(MT50) and min(COSTS.values()) > 0
