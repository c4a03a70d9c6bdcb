"""A Dreamer of one task: one model, one behaviour. Dreamer itself, and the methods that begin with what others left."""

from __future__ import annotations

from mtrepro.engine.sequence_replay import Sequences
from mtrepro.world_model.acting import S
from mtrepro.world_model.agent import DreamerAgent
from mtrepro.world_model.behaviour import Behaviour
from mtrepro.world_model.model import WorldModel


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

    def draw(self) -> Sequences:
        """Sequences of the task."""
        return self.replay.draw(self.settings.sequences, self.settings.length)
