"""A Dreamer of one task: one model, one behaviour. Dreamer itself, and the methods that begin with what others left."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mtrepro.engine import seeding
from mtrepro.engine.adam import Adam
from mtrepro.engine.sequence_replay import Sequences
from mtrepro.methods import Weights
from mtrepro.world_model.agent import DreamerAgent, Mind, S
from mtrepro.world_model.behaviour import Behaviour
from mtrepro.world_model.groups import named_groups
from mtrepro.world_model.layers import initialise
from mtrepro.world_model.model import ModelLoss, WorldModel


class SingleDreamer(DreamerAgent[S]):
    """One Dreamer on one task."""

    @property
    def model(self) -> WorldModel:
        """The world model."""
        return self.minds[0].model

    @property
    def behaviour(self) -> Behaviour:
        """Actor and critic."""
        return self.minds[0].behaviour

    def build(self, seed: int) -> list[Mind]:
        """One model and one behaviour."""
        model = WorldModel(self.settings, self.problem.observation_shape[0], self.problem.action_size)
        behaviour = Behaviour(self.settings, model.dynamics.features, self.problem.action_size)
        initialise(model, seeding.torch_stream(seed, "world model"))
        initialise(behaviour.actor, seeding.torch_stream(seed, "actor"))
        initialise(behaviour.critic, seeding.torch_stream(seed, "critic"))
        return [Mind(model, behaviour)]

    def optimise(self) -> dict[str, Adam]:
        """One for the model, one for the actor, one for the critic; what is frozen belongs to none."""
        networks = {"world_model": self.model, "actor": self.behaviour.actor, "critic": self.behaviour.critic}
        settings = self.settings
        rates = {"world_model": settings.model_rate, "actor": settings.actor_rate, "critic": settings.critic_rate}
        return {
            name: self.adam([each for each in network.parameters() if each.requires_grad], rates[name])
            for name, network in networks.items()
        }

    def draw(self) -> Sequences:
        """Sequences of the task."""
        return self.replay.draw(self.settings.sequences, self.settings.length)

    def descend_models(self, losses: Sequence[ModelLoss]) -> Tensor:
        """The model's own step."""
        return self.descend("world_model", losses[0].total)

    def weights(self) -> Weights:
        """Every parameter by group and name, for runs that learn from this one."""
        return named_groups(self.model, self.behaviour)
