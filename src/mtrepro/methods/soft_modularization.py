"""Soft modularization: layers of modules, and a routing network that says how much each module gives to the next.

Yang, Xu, Wu, Wang, "Multi-Task Reinforcement Learning with Soft Modularization", NeurIPS 2020. `variant: mtrl` is the
form that CARE and PTSL compare with, `original` that of the paper's own code (deep: 4 layers x 4 modules x 128 units,
shallow: 2 x 2 x 256). docs/methods/soft_modularization.md has both in equations, and what differs from the paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mtrepro.networks.actor_critic import Actor, Critics, Networks, Observation, Seen
from mtrepro.networks.mlp import mlp
from mtrepro.networks.task_encoder import TaskEncoder
from mtrepro.networks.tasks import BatchTasks, StackedLinear
from mtrepro.soft_actor_critic.agent import SoftActorCritic
from mtrepro.soft_actor_critic.task_settings import LEARNED, TaskSettings


class Settings(TaskSettings):
    """Every hyper-parameter of soft modularization; the defaults are in config/methods/soft_modularization.yaml."""

    variant: Literal["mtrl", "original"] = Field(description="the network of mtrl, or that of the paper's own code")
    width: int = Field(gt=0, description="units of each module")
    module_layers: int = Field(ge=2, description="layers of modules")
    modules: int = Field(ge=2, description="modules of each layer")
    feature_size: int = Field(gt=0, description="units of each layer of the observation's encoder, and of its encoding")
    encoder_depth: int = Field(ge=0, description="hidden layers of the observation's encoder")
    gating_width: int = Field(gt=0, description="units of each layer of the routing network, for `original`")
    gating_layers: int = Field(gt=0, description="layers of the routing network, for `original`")
    temperature_weights: bool = Field(
        description="weigh a task's losses by N softmax(-log alpha), so that the tasks that are mastered count more"
    )

    def conflicts(self, budget: int, tasks: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Settings that cannot work with this budget and these tasks."""
        yield from super().conflicts(budget, tasks)
        if self.variant == "mtrl" and self.feature_size != self.code_size:
            yield (
                "feature_size",
                f"routing multiplies encodings of {self.feature_size} numbers with task codes of {self.code_size}; "
                "make feature_size and code_size equal",
            )
        if self.variant == "original" and self.task_embedding != LEARNED:
            yield "task_embedding", f"the original embeds the task's one-hot itself: only {LEARNED!r} makes sense here"
        if self.temperature_weights and not self.temperature_per_task:
            yield (
                "temperature_weights",
                (
                    "there is one temperature for all tasks, so nothing to weigh them by; "
                    "set temperature_per_task: true, or temperature_weights: false"
                ),
            )


class SoftModularization(SoftActorCritic[Settings]):
    """Soft actor-critic on routed modules."""

    def build(self) -> Networks:
        """mtrl: encoder and task encoder are the critics', stopped for the actor. original: nothing is shared."""
        its, observation, actions = self.settings, self.problem.observation_size, self.problem.action_size
        if its.variant == "original":
            actor = Actor(Observation(), self._original(observation, 2 * actions))
            critics = Critics(Observation(), lambda: self._original(observation + actions, 1))
            return Networks(actor, critics, actor.parameters())
        encoder = Encoder(mlp(observation, its.feature_size, its.encoder_depth, its.feature_size))
        actor = Actor(Stopped(encoder), self._mtrl(its.feature_size, 2 * actions))
        critics = Critics(encoder, lambda: self._mtrl(its.feature_size, 1, with_action=actions))
        task_encoder = TaskEncoder(its.task_embedding, self.problem.task_names, its.code_size)
        rates = its.task_encoder_rate, its.encoder_target_rate
        return Networks(actor, critics, actor.body.parameters(), task_encoder, *rates)

    def weigh(self, losses: Tensor, tasks: BatchTasks) -> Tensor:
        """w_t = N softmax(-log alpha)_t for critics and actor alike, where asked (the paper, section 3.3)."""
        if not self.settings.temperature_weights:
            return losses
        return losses * (self.problem.tasks * torch.softmax(-self.log_alpha.detach(), 0))[tasks.index]

    def _mtrl(self, features: int, outputs: int, with_action: int = 0) -> MtrlModules:
        its = self.settings
        return MtrlModules(features, with_action, its.width, its.module_layers, its.modules, outputs)

    def _original(self, inputs: int, outputs: int) -> OriginalModules:
        its = self.settings
        base = mlp(inputs, its.feature_size, its.encoder_depth, its.feature_size)
        return OriginalModules(
            base, self.problem.tasks, its.feature_size, its.gating_width, its.gating_layers,
            its.width, its.module_layers, its.modules, outputs,
        )  # fmt: skip


class Encoder(nn.Module):
    """The observation's encoding: (batch, observation) -> (batch, features)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, seen: Seen) -> Tensor:
        encoding: Tensor = self.network(seen.observation)
        return encoding


class Stopped(nn.Module):
    """Another's encoder, through which no gradient flows: the actor's (mtrl)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    @torch.no_grad()
    def forward(self, seen: Seen) -> Tensor:
        encoding: Tensor = self.encoder(seen)
        return encoding


class MtrlModules(nn.Module):
    """mtrl's routed modules: (batch, features [+ actions]) -> (batch, outputs).

    x = P [z, a] in a critic, z in the actor              r = R (x * code_t)
    p_1 = D_1 relu(r),  p_{l+1} = D_{l+1} relu((U_l p_l) * r),  softmax over the giving module
    m_1i = relu(x W_1i),  m_li = relu((sum_j p_{l-1,ij} m_{l-1,j}) W_li),  y = mean_i (sum_j p_{L-1,ij} m_{L-1,j}) W_Li
    """

    def __init__(self, features: int, actions: int, width: int, layers: int, modules: int, outputs: int) -> None:
        super().__init__()
        self.project = nn.Linear(features + actions, features) if actions else nn.Identity()
        self.routing = nn.Linear(features, width)  # R
        self.down = nn.ModuleList(nn.Linear(width, modules**2) for _ in range(layers - 1))  # D_l
        self.up = nn.ModuleList(nn.Linear(modules**2, width) for _ in range(layers - 2))  # U_l
        sizes = [features, *[width] * (layers - 1)]
        self.layers = nn.ModuleList(StackedLinear(modules, size, width) for size in sizes[:-1])
        self.output = StackedLinear(modules, width, outputs)
        self.modules_each = modules

    def forward(self, inputs: Tensor, seen: Seen) -> Tensor:
        x = self.project(inputs)
        r = self.routing(x * seen.code)
        first, *deeper = self.layers
        p = self.down[0](torch.relu(r))
        m = torch.relu(first(x.expand(self.modules_each, *x.shape)))  # (modules, batch, width)
        for layer, down, up in zip(deeper, self.down[1:], self.up, strict=True):
            m = torch.relu(layer(mixed(_routes(p, self.modules_each), m)))
            p = down(torch.relu(up(p) * r))
        return self._output(_routes(p, self.modules_each), m)

    def _output(self, p: Tensor, m: Tensor) -> Tensor:
        """mean_i W_i sum_j p_ij m_j + b_i, each m_j multiplied first: outputs are few, so that mixing them is cheap."""
        modules, batch, _ = m.shape
        weights = self.output.weight.permute(1, 0, 2).flatten(1)  # (width, modules x outputs)
        each = (m.flatten(0, 1) @ weights).view(modules, batch, modules, -1)  # (j, batch, i, outputs)
        mixed_outputs = (p.permute(2, 0, 1).unsqueeze(-1) * each).sum(0)  # (batch, i, outputs)
        return mixed_outputs.mean(1) + self.output.bias.mean(0)


class OriginalModules(nn.Module):
    """The paper's own network: (batch, inputs) -> (batch, outputs), with f = base(x) and v_t the task's embedding.

    r = G relu(f * v_t), G `gating_layers` linear layers with relu between
    p_1 = softmax(D_1 relu(r)),  p_{l+1} = softmax(D_{l+1} relu((U_l [p_1 ... p_l]) * r)),  q alike, one row
    m_1i = relu(f) W_1i,  m_li = relu(sum_j p_{l-1,ij} m_{l-1,j}) W_li,  y = O relu(sum_j q_j m_Lj)
    """

    def __init__(
        self, base: nn.Module, tasks: int, features: int, gating_width: int, gating_layers: int, width: int,
        layers: int, modules: int, outputs: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.base, self.embedding = base, nn.Linear(tasks, features)
        self.gating = mlp(features, gating_width, gating_layers - 1, gating_width)
        squared = modules**2
        self.up = nn.ModuleList(nn.Linear((layer + 1) * squared, gating_width) for layer in range(layers - 1))
        rows = [*[squared] * (layers - 1), modules]  # p_1 ... p_{L-1}, q
        self.down = nn.ModuleList(nn.Linear(gating_width, count) for count in rows)
        sizes = [features, *[width] * (layers - 1)]
        self.layers = nn.ModuleList(StackedLinear(modules, size, width) for size in sizes)
        self.output = nn.Linear(width, outputs)
        self.modules_each = modules

    def forward(self, inputs: Tensor, seen: Seen) -> Tensor:
        f = self.base(inputs)
        *routes, last = self._routes(f, seen)
        first, *deeper = self.layers
        x = torch.relu(f)
        m = first(x.expand(self.modules_each, *x.shape))  # (modules, batch, width)
        for layer, p in zip(deeper, routes, strict=True):
            m = layer(torch.relu(mixed(p, m)))
        output: Tensor = self.output(torch.relu(mixed(last, m)).squeeze(0))
        return output

    def _routes(self, f: Tensor, seen: Seen) -> list[Tensor]:
        """p_1 ... p_{L-1} of (batch, modules, modules) and q of (batch, 1, modules)."""
        r = self.gating(torch.relu(f * self.embedding(seen.tasks.one_hot)))
        found = [_routes(self.down[0](torch.relu(r)), self.modules_each)]
        for up, down in zip(self.up, self.down[1:], strict=True):
            before = torch.cat([p.flatten(1) for p in found], dim=1)
            found.append(_routes(down(torch.relu(up(before) * r)), self.modules_each))
        return found


def _routes(p: Tensor, modules: int) -> Tensor:
    """(batch, rows x modules) -> (batch, rows, modules), each row a distribution over the giving modules."""
    return p.view(len(p), -1, modules).softmax(2)


def mixed(p: Tensor, m: Tensor) -> Tensor:
    """sum_j p_ij m_j: (batch, i, j) and (j, batch, width) -> (i, batch, width)."""
    return (p @ m.transpose(0, 1)).transpose(0, 1)
