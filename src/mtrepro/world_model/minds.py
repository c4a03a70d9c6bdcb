"""A mind: a world model and the behaviour that is learned in it, of one task or of several."""

from __future__ import annotations

from torch import nn

from mtrepro.engine import seeding
from mtrepro.methods import Problem
from mtrepro.world_model.behaviour import Behaviour
from mtrepro.world_model.layers import initialise
from mtrepro.world_model.model import WorldModel
from mtrepro.world_model.policies import Policy
from mtrepro.world_model.settings import DreamerSettings
from mtrepro.world_model.state_space import State


class Mind(nn.Module):
    """What is known of a world, and what is done in it."""

    def __init__(self, model: WorldModel, behaviour: Behaviour) -> None:
        super().__init__()
        self.model, self.behaviour = model, behaviour

    def policy(self, state: State) -> Policy:
        """pi(a | s)."""
        return self.behaviour.actor.policy(self.behaviour.actor(state.features))


def make_mind(
    settings: DreamerSettings, problem: Problem, seed: int, *names: str, codes: nn.Linear | None = None
) -> Mind:
    """A mind, initialised from random streams of its own.

    Args:
        names: tell its streams from those of other minds.
        codes: see `WorldModel`.
    """
    model = WorldModel(settings, problem.observation_shape[0], problem.action_size, codes)
    behaviour = Behaviour(settings, model.dynamics.features, problem.action_size)
    initialise(model, seeding.torch_stream(seed, "world model", *names))
    initialise(behaviour.actor, seeding.torch_stream(seed, "actor", *names))
    initialise(behaviour.critic, seeding.torch_stream(seed, "critic", *names))
    behaviour.begin_slow_critic()
    return Mind(model, behaviour)
