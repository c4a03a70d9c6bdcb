"""What every Dreamer does: act from what it remembers, store frames, learn model and behaviour, save all of it.

    while steps are left:   act, remembering s -> store the frame
                            every so many steps: draw sequences -> world model -> imagine -> actor, critic

A method says what an update learns from, and may give each task a mind of its own, with the optimisers that move it.
Tasks that share a mind are computed together, others one after the other.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from mtrepro.engine.sequence_replay import Sequences
from mtrepro.world_model.acting import Acting, S
from mtrepro.world_model.model import ModelLoss


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

    def learn(self) -> None:
        """One update: world models on sequences, then actors and critics on what is imagined from their states."""
        batch = self.draw()
        shares = [batch.columns(columns) for _, columns in self._by_mind(batch.task)]
        losses = [
            mind.model.loss(share, mind.model.dynamics.latents.noise(*share.reward.shape, generator=self.noise))
            for mind, share in zip(self.minds, shares, strict=True)
        ]
        norm = self.descend_models(losses)
        learned = [
            {"model_loss": loss.total, **loss.parts, **self._learn_behaviour(index, share, loss)}
            for index, (share, loss) in enumerate(zip(shares, losses, strict=True))
        ]
        self.updates += 1
        for mind in self.minds:
            mind.behaviour.follow_critic(self.updates)
        self.owed -= 1
        means = {name: torch.stack([each[name].detach() for each in learned]).mean() for name in learned[0]}
        self.meters.add(**means, model_gradient=norm)

    def _learn_behaviour(self, index: int, batch: Sequences, loss: ModelLoss) -> dict[str, Tensor]:
        """Actor and critic of a mind, from every frame of its sequences."""
        mind = self.minds[index]
        judged = self.judged(mind, batch, loss)
        actor_norm = self.descend_behaviour(index, "actor", judged.actor_loss)
        critic_loss = mind.behaviour.critic_loss(judged)
        critic_norm = self.descend_behaviour(index, "critic", critic_loss)
        return {
            "actor_loss": judged.actor_loss, "critic_loss": critic_loss, "imagined_return": judged.returns.mean(),
            "entropy": judged.entropy, "actor_gradient": actor_norm, "critic_gradient": critic_norm,
        }  # fmt: skip
