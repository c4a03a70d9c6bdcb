"""Meta-model transfer: a Dreamer whose reward model asks those of earlier runs.

Sasso, Sabatelli, Wiering, "Multi-Source Transfer Learning for Deep Model-Based Reinforcement Learning", 2022
(2205.14410). One encoder, frozen, is shared by all; the reward models of earlier runs that were trained with it are
asked, and what they say enters the new reward model beside the features. In the published code it does not enter:
the predictions are computed and dropped. docs/methods/meta_model_transfer.md has the equations and the differences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from mtrepro.engine import seeding
from mtrepro.errors import SpecificationError
from mtrepro.methods import Problem, Weights
from mtrepro.world_model.groups import named_groups
from mtrepro.world_model.layers import dense, initialise
from mtrepro.world_model.meta_reward import Accompanied, MetaReward
from mtrepro.world_model.minds import Mind
from mtrepro.world_model.recurrent import RecurrentModel
from mtrepro.world_model.single import SingleDreamer
from mtrepro.world_model.transfer_settings import MetaModelSettings
from mtrepro.world_model.transferring import same, take


class Settings(MetaModelSettings):
    """Every hyper-parameter; the defaults are in config/methods/meta_model_transfer.yaml."""

    def conflicts(self, budget: int, tasks: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Settings that cannot work with this budget and these tasks."""
        yield from super().conflicts(budget, tasks)
        if len(tasks) != 1:
            yield "", f"meta_model_transfer learns one task, not {len(tasks)}: choose one of ({', '.join(tasks)})"


class MetaModelTransfer(SingleDreamer[Settings]):
    """A Dreamer whose encoder is given, and whose reward model asks those of other runs."""

    def __init__(self, settings: Settings, problem: Problem, seed: int, device: torch.device) -> None:
        super().__init__(settings, problem, seed, device, "meta_model_transfer")

    def build(self, seed: int) -> list[Mind]:
        """A fresh Dreamer's, but for the encoder, the decoder where it is copied, and the reward model."""
        (mind,) = super().build(seed)
        given, model = self.problem.sources, mind.model
        latents = model.dynamics.latents.size
        treatments = {"encoder": "frozen", "decoder": self.settings.decoder}
        take(named_groups(model, mind.behaviour), given["encoder"], treatments, 0.0, latents, "sources.encoder")
        asked = {role: weights for role, weights in given.items() if role != "encoder"}
        for role, weights in asked.items():
            _refuse_other_encoder(role, weights, given["encoder"])
        own = model.dynamics.features
        reward = MetaReward(
            [self._reward(role, weights, own) for role, weights in asked.items()],
            own, self.settings.width, self.settings.meta_depth,
        )  # fmt: skip
        initialise(reward.body, seeding.torch_stream(seed, "meta reward"))
        model.add_module("reward", reward)
        if self.settings.reward_features == "source":
            others = [self._dynamics(role, weights, model.encoder.size) for role, weights in asked.items()]
            model.dynamics = Accompanied(model.dynamics, others, self.settings)
            for head in (model.decoder, model.continues, mind.behaviour.actor, mind.behaviour.critic):
                if head is not None:  # the features of the others are for the reward model alone
                    head.register_forward_pre_hook(lambda _, given: (given[0][..., :own],))
            mind.behaviour.begin_slow_critic()  # again: a copy of what the critic is now
        return [mind]

    def _reward(self, role: str, weights: Weights, features: int) -> nn.Sequential:
        """The reward model of a source, frozen."""
        head = dense(features, self.settings.width, self.settings.reward_depth, 1)
        groups = {
            "reward_hidden": dict(head[:-1].named_parameters()),
            "reward_output": dict(head[-1].named_parameters()),
        }
        take(groups, weights, dict.fromkeys(groups, "frozen"), 0.0, 0, f"sources.{role}")
        return head

    def _dynamics(self, role: str, weights: Weights, embedding: int) -> RecurrentModel:
        """The state-space model of a source, frozen; it may know more actions than this run has."""
        where = f"sources.{role}"
        entering: Tensor | None = weights.get("dynamics_enter", {}).get("weight")
        shape = "nothing" if entering is None else tuple(entering.shape)
        own = self.problem.action_size
        model = RecurrentModel(self.settings, embedding, own)
        if entering is None or entering.dim() != 2 or entering.shape[1] < model.enter.in_features:
            raise SpecificationError(
                f"{where}: a target may have fewer actions than its source, not more\n"
                f"  group dynamics_enter, weight: {tuple(model.enter.weight.shape)} here, {shape} in the source"
            )
        model = RecurrentModel(self.settings, embedding, entering.shape[1] - model.latents.size)
        groups = {
            "dynamics": {n: p for n, p in model.named_parameters() if not n.startswith("enter.")},
            "dynamics_enter": dict(model.enter.named_parameters()),
        }
        take(groups, weights, dict.fromkeys(groups, "frozen"), 0.0, model.latents.size, where)
        return model


def _refuse_other_encoder(role: str, weights: Weights, shared: Weights) -> None:
    """Features mean nothing to a reward model that was trained on another encoder's."""
    if not same(weights.get("encoder", {}), shared["encoder"]):
        raise SpecificationError(
            f"sources.{role}: its encoder is not that of sources.encoder\n"
            "  train it with that encoder frozen: method transfer, groups: {encoder: frozen}\n"
            "  see docs/methods/meta_model_transfer.md"
        )
