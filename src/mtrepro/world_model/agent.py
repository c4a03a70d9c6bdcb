"""What every Dreamer does: act from what it remembers, store frames, learn model and behaviour, save all of it.

    while steps are left:   act, remembering s -> store the frame
                            every so many steps: draw sequences -> world model -> imagine -> actor, critic

A method says what an update learns from, and may give each task a mind of its own, with the optimisers that move it.
Tasks that share a mind are computed together, others one after the other.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mtrepro.engine.compilation import Compiled, tensors_of
from mtrepro.engine.execution import ALONE
from mtrepro.engine.sequence_replay import Sequences
from mtrepro.methods import Problem, Weights
from mtrepro.networks.mapping import over_seeds, places_of
from mtrepro.world_model.acting import Acting, S
from mtrepro.world_model.behaviour import Judged
from mtrepro.world_model.groups import named_groups
from mtrepro.world_model.imagination import Draw
from mtrepro.world_model.model import ModelLoss
from mtrepro.world_model.together import Together, learn_mapped


class DreamerAgent(Acting[S]):
    """A Dreamer that learns its models, then its behaviours, on the same sequences; a method derives from it."""

    @abstractmethod
    def draw(self) -> Sequences:
        """What one update learns from; with a mind for each task, every task's sequences."""

    def descend_models(self, losses: Sequence[ModelLoss]) -> Tensor:
        """Move the world models down their losses, one for each mind; the gradients' mean norm, scalar."""
        return self.descend("world_model", losses[0].total)

    def descend_behaviour(self, mind: int, part: str, loss: Tensor) -> Tensor:
        """Move the "actor" or "critic" of a mind down its loss; the gradient's norm, scalar."""
        return self.descend(part, loss)

    def __init__(self, settings: S, problem: Problem, seed: int, device: torch.device, name: str) -> None:
        super().__init__(settings, problem, seed, device, name)
        self.seed = seed
        self.mapped = False  # whether parameters are those of several seeds, over which losses are mapped
        self._computed = Compiled(self._update, lambda: tensors_of(self.minds, self.optimisers), self.execution)

    def learn(self) -> None:
        """One update: world models on sequences, then actors and critics on what is imagined from their states."""
        self.execution.note_company(ALONE)
        self.meters.add(**self._computed(self._draws()))
        self.note_update()

    def note_update(self) -> None:
        """What follows an update that is no function of its draws: the slow critics, the counts."""
        self.updates += 1
        for mind in self.minds:
            mind.behaviour.follow_critic(self.updates)
        self.owed -= 1

    def _draws(self) -> tuple[Draw, ...]:
        """For each mind its sequences and all the noise of an update: all that it takes from random streams."""
        batch = self.draw()
        shares = [batch.columns(columns) for _, columns in self._by_mind(batch.task)]
        minds = [(mind, share) for mind, share in zip(self.minds, shares, strict=True)]
        latent = [mind.model.dynamics.latents.noise(*share.reward.shape, generator=self.noise) for mind, share in minds]
        imagined = [self.noise_of_imagination(mind, share.reward.numel()) for mind, share in minds]
        return tuple(Draw(*each) for each in zip(shares, latent, imagined, strict=True))

    def _update(self, draws: tuple[Draw, ...]) -> dict[str, Tensor]:
        """What follows from the draws; returns the meters'. It takes from no random stream."""
        with self.precision.products():
            losses = self._each(self._model_losses, draws)
        norm = self.descend_models(losses)
        learned = [
            {"model_loss": loss.total, **loss.parts, **self._learn_behaviour(index, draw, loss)}
            for index, (draw, loss) in enumerate(zip(draws, losses, strict=True))
        ]
        means = {name: torch.stack([each[name].detach() for each in learned]).mean(0) for name in learned[0]}
        return {**means, "model_gradient": norm}

    def _each(self, function: Callable[..., Any], *given: Any) -> Any:
        """function(*given); of stacked seeds for each of them, by its own parameters."""
        return over_seeds(places_of(self.minds), function, *given) if self.mapped else function(*given)

    def _model_losses(self, draws: tuple[Draw, ...]) -> list[ModelLoss]:
        return [mind.model.loss(its.batch, its.latent) for mind, its in zip(self.minds, draws, strict=True)]

    def _learn_behaviour(self, index: int, draw: Draw, loss: ModelLoss) -> dict[str, Tensor]:
        """Actor and critic of a mind, from every frame of its sequences."""
        with self.precision.products():
            judged, mean_return = self._each(partial(self._judged, index), draw, loss)
        actor_norm = self.descend_behaviour(index, "actor", judged.actor_loss)
        with self.precision.products():
            critic_loss = self._each(self.minds[index].behaviour.critic_loss, judged)
        critic_norm = self.descend_behaviour(index, "critic", critic_loss)
        return {
            "actor_loss": judged.actor_loss, "critic_loss": critic_loss, "imagined_return": mean_return,
            "entropy": judged.entropy, "actor_gradient": actor_norm, "critic_gradient": critic_norm,
        }  # fmt: skip

    def _judged(self, index: int, draw: Draw, loss: ModelLoss) -> tuple[Judged, Tensor]:
        """What the imagined trajectories are worth, and their mean return, scalar."""
        judged = self.judged(self.minds[index], draw.batch, loss, draw.imagined)
        return judged, judged.returns.mean()

    @classmethod
    def together(cls, agents: Sequence[DreamerAgent[S]]) -> Together | None:
        """The updates of several seeds at once, on a GPU where it works; on a CPU it would be no faster."""
        return None if agents[0].device.type == "cpu" else learn_mapped(agents)

    def weights(self) -> Weights:
        """Every parameter by group and name, for runs that learn from this one.

        What minds of single tasks do not share stands under group/task.
        """
        first, last = (named_groups(mind.model, mind.behaviour) for mind in (self.minds[0], self.minds[-1]))
        common = [group for group in first if all(p is last[group][name] for name, p in first[group].items())]
        left = {group: first[group] for group in common}
        for task, mind in zip(self.problem.task_names, self.minds, strict=False):  # one mind has all in common
            groups = named_groups(mind.model, mind.behaviour)
            left |= {f"{group}/{task}": named for group, named in groups.items() if group not in common}
        return left
