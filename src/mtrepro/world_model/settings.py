"""The hyper-parameters that every Dreamer method has. Reading them needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class DreamerSettings(BaseModel):
    """Replay, world model, imagination, behaviour and optimisers. Defaults: config/methods/*.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    replay_frames: int = Field(gt=0, description="capacity of the replay, frames of all tasks together")
    random_steps: int = Field(ge=1, description="vector steps of uniform random actions at the start")
    first_updates: int = Field(ge=0, description="updates done at once when the random steps are over")
    learn_every: int = Field(gt=0, description="vector steps between two rounds of updates")
    learn_updates: int = Field(ge=0, description="updates of a round")
    sequences: int = Field(gt=0, description="sequences of one update")
    length: int = Field(ge=2, description="frames of a sequence")

    latent: Literal["gaussian", "categorical"] = Field(description="z: Gaussians (v1), or one-hot vectors (v2)")
    latent_size: int = Field(gt=0, description="how many Gaussians or one-hot vectors make z")
    latent_classes: int | None = Field(ge=2, description="entries of a one-hot vector; null for Gaussians")
    state_space: Literal["recurrent", "transformer"] = Field(description="how a moment knows those before it")
    recurrent_size: int = Field(gt=0, description="units of h, in either state-space model")
    recurrent_cell: Literal["gru", "layer_norm_gru"] = Field(
        description="of the recurrent one: gru (v1), or with layer normalisation (v2)"
    )
    attention_layers: int = Field(gt=0, description="of the Transformer: its layers")
    attention_heads: int = Field(gt=0, description="of the Transformer: heads of each layer, which share h's units")
    feedforward_size: int = Field(gt=0, description="of the Transformer: hidden units of what follows each attention")
    hidden_size: int = Field(gt=0, description="units of the state-space model's hidden layers")
    picture_channels: int = Field(gt=0, description="channels after the encoder's first layer; each layer doubles them")
    picture_activation: Literal["relu", "elu"] = Field(description="of encoder and decoder: relu (v1) or elu (v2)")
    width: int = Field(gt=0, description="units of each hidden layer of reward, continue, actor and critic")
    reward_depth: int = Field(ge=0, description="hidden layers of the reward model")
    continue_depth: int = Field(ge=0, description="hidden layers of the continue model, where there is one")
    actor_depth: int = Field(ge=0, description="hidden layers of the actor")
    critic_depth: int = Field(ge=0, description="hidden layers of the critic")

    picture_scale: float = Field(
        gt=0, description="weight of the picture loss: 16 gives 16 x 16 pictures the weight that 64 x 64 ones have"
    )
    reward_scale: float = Field(gt=0, description="weight of the reward loss in the model loss")
    kl_scale: float = Field(ge=0, description="weight of the KL in the model loss")
    kl_balance: float | None = Field(ge=0, le=1, description="share that trains the prior (v2); null: one KL (v1)")
    free_nats: float = Field(ge=0, description="a mean KL below it counts as this much and gives no gradient")
    continue_scale: float | None = Field(gt=0, description="weight of the continue loss; null: there is no such model")

    imagination_horizon: int = Field(ge=2, description="H: steps imagined from every frame")
    discount: float = Field(ge=0, le=1, description="gamma")
    return_lambda: float = Field(ge=0, le=1, description="lambda: 0 trusts the critic alone, 1 only the last value")
    actor_distribution: Literal["tanh_normal", "truncated_normal"] = Field(
        description="tanh of a normal (v1), or a normal cut to [-1, 1] (v2)"
    )
    actor_initial_std: float = Field(gt=0, description="standard deviation of a fresh tanh-normal, before the tanh")
    actor_mean_scale: float = Field(gt=0, description="the tanh-normal's mean stays within plus and minus this")
    actor_min_std: float = Field(gt=0, description="added to every standard deviation of the actor")
    reinforce_share: float = Field(
        ge=0, le=1, description="0: the actor climbs through the dynamics; 1: by REINFORCE; between: by both, mixed"
    )
    entropy_scale: float = Field(ge=0, description="weight of the actor's entropy")
    critic_on_start: bool = Field(description="the critic also learns where imagination starts (v2)")
    slow_critic_every: int | None = Field(
        gt=0, description="updates between copies to the slow critic, which then gives the values; null: there is none"
    )
    slow_critic_share: float = Field(gt=0, le=1, description="how far a copy goes: 1 is all the way")
    exploration_noise: float = Field(ge=0, description="standard deviation of what is added to actions in training")

    model_rate: float = Field(gt=0, description="learning rate of the world model")
    actor_rate: float = Field(gt=0, description="learning rate of the actor")
    critic_rate: float = Field(gt=0, description="learning rate of the critic")
    adam_epsilon: float = Field(gt=0, description="Adam's epsilon")
    weight_decay: float = Field(ge=0, lt=1, description="share that every parameter loses at each update (v2)")
    gradient_limit: float = Field(
        gt=0, description="largest norm of each optimiser's gradients; longer ones are scaled"
    )
    critic_loss_limit: float = Field(gt=0, description="a critic loss above it counts as diverged")

    def conflicts(self, budget: int, tasks: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Settings that cannot work with this budget and these tasks."""
        if budget <= self.random_steps:
            yield (
                "random_steps",
                f"{self.random_steps} random steps leave nothing to learn in a budget of {budget} steps",
            )
        frames = min(self.random_steps + 1, self.replay_frames // len(tasks))
        if self.length > frames:
            yield (
                "length",
                f"a sequence of {self.length} frames is longer than the {frames} that the first updates find",
            )
        yield from self.impossible_shapes()

    def impossible_shapes(self) -> Iterator[tuple[str, str]]:
        """Settings of networks that cannot be built."""
        if self.state_space == "transformer" and self.recurrent_size % (2 * self.attention_heads):
            yield (
                "attention_heads",
                f"{self.attention_heads} heads cannot share {self.recurrent_size} units: each needs an even number of "
                "them; make recurrent_size a multiple of twice the heads",
            )
        if (self.latent == "categorical") != (self.latent_classes is not None):
            needed = "needs a number of classes" if self.latent == "categorical" else "has no classes: give null"
            yield "latent_classes", f"a {self.latent} latent {needed}"
