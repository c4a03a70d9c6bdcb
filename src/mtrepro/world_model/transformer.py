"""The Transformer state-space model: what was before is attended to, not summed up in a recurrent state.

Chen et al., "TransDreamer: Reinforcement Learning with Transformer World Models", 2022 (2202.09481), with the
task's code c where the model is told its task:

    posterior  q(z_t | e_t)  = latents(W elu(W e_t))
    token      x_t = elu(W [z_{t-1}, a_{t-1}, c])
    h_t        = LayerNorm(transformer(x_i .. x_t)),  i the episode's first moment, or the last `length` moments
    prior      p(z_t | h_t)  = latents(W elu(W h_t))

The posterior knows no history, so that all frames are understood at once. h is the last layer's output, not all
layers' side by side: heads see features of one size with either state-space model. No moment attends to another
episode's, which the published code lets it, nor further back than a sequence of the updates shows. In imagination
and in acting, keys and values are kept: one token a step. docs/methods/multi_task_dreamer.md says what else differs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtrepro.engine.precision import unrounded
from mtrepro.world_model.attention import Layer
from mtrepro.world_model.settings import DreamerSettings
from mtrepro.world_model.state_space import Followed, State, StateSpaceModel


class Kept(NamedTuple):
    """Keys and values of P moments, layer after layer, and for how many moments more each row sees each of them."""

    life: Tensor  # (rows, P) int64; 0: never again
    layers: tuple[Tensor, ...]  # keys, values, keys, values, ...: each (owners, heads, P, units)


class Past(NamedTuple):
    """What rows remember: moments of their own, and moments of the sequence that they begin in, common to many."""

    moment: Tensor  # (rows,) int64: the next one
    own: Kept  # an owner is a row
    common: Kept | None = None  # an owner is a sequence; row s * owners + g belongs to sequence g

    def flat(self) -> tuple[Tensor, ...]:
        """As it stands in `State.memory`."""
        common = () if self.common is None else (self.common.life, *self.common.layers)
        return self.moment, self.own.life, *self.own.layers, *common


class TransformerModel(StateSpaceModel):
    """See the base class."""

    def __init__(self, settings: DreamerSettings, embedding: int, actions: int, code: int = 0) -> None:
        super().__init__(settings, code)
        hidden = settings.hidden_size
        self.span = settings.length  # moments that a moment attends to at most, itself among them
        self.enter = nn.Linear(self.latents.size + actions + code, self.size)
        self.layers = nn.ModuleList(
            Layer(self.size, settings.attention_heads, settings.feedforward_size)
            for _ in range(settings.attention_layers)
        )
        self.norm = nn.LayerNorm(self.size)
        self.prior_hidden = nn.Linear(self.size, hidden)
        self.prior_output = nn.Linear(hidden, self.latents.outputs)
        self.posterior_hidden = nn.Linear(embedding, hidden)
        self.posterior_output = nn.Linear(hidden, self.latents.outputs)

    def prior(self, h: Tensor) -> Tensor:
        """p(z | h). Shapes: (..., size) -> (..., latents.outputs)."""
        outputs: Tensor = self.prior_output(functional.elu(self.prior_hidden(h)))
        return outputs

    def posterior(self, e: Tensor) -> Tensor:
        """q(z | e). Shapes: (..., embedding) -> (..., latents.outputs)."""
        outputs: Tensor = self.posterior_output(functional.elu(self.posterior_hidden(e)))
        return outputs

    def begin(self, c: Tensor) -> State:
        """Nothing is remembered: every place for a moment is there, and seen by nobody."""
        state, rows, places = super().begin(c), len(c), self.span - 1
        shapes = [(rows, layer.heads, places, layer.units) for layer in self._layers for _ in ("keys", "values")]
        own = Kept(c.new_zeros(rows, places, dtype=torch.int64), tuple(c.new_zeros(shape) for shape in shapes))
        return state._replace(memory=Past(c.new_zeros(rows, dtype=torch.int64), own).flat())

    def imagine(self, state: State, a: Tensor, noise: Tensor) -> State:
        """z ~ p(z | h)."""
        h, memory = self._advance(state, a)
        return State(h, self.latents.sample(self.prior(h), noise), state.c, memory)

    def see(self, state: State, a: Tensor, e: Tensor, noise: Tensor | None) -> State:
        """z ~ q(z | e)."""
        h, memory = self._advance(state, a)
        outputs = self.posterior(e)
        z = self.latents.mode(outputs) if noise is None else self.latents.sample(outputs, noise)
        return State(h, z, state.c, memory)

    def follow(self, e: Tensor, a: Tensor, is_first: Tensor, c: Tensor, noise: Tensor) -> Followed:
        """All frames at once. The states' memory is what `starts` needs: actions, and each frame's episode."""
        posterior = self.posterior(e)
        z = self.latents.sample(posterior, noise)
        episode = is_first.cumsum(0)  # counted within each sequence
        a = (~is_first).unsqueeze(-1).to(a.dtype) * a
        c = c.expand(len(e), *c.shape)
        h, _ = self._attend(self._tokens(z, a, c, episode), episode)
        return Followed(State(h, z, c, (a, episode)), posterior, self.prior(h))

    @torch.no_grad()
    def starts(self, states: State) -> State:
        """Every frame with the keys and values of its sequence, which the frames of a sequence have in common.

        h, keys and values are computed anew: since `states` were, the model may have learned.
        """
        states = states.map(Tensor.detach)
        a, episode = states.memory
        h, layers = self._attend(self._tokens(states.z, a, states.c, episode), episode)
        frames, rows = len(h), h.shape[0] * h.shape[1]
        seen, moments = self._seen(episode), torch.arange(frames, device=h.device)
        life = (self.span - 1 - (moments[:, None] - moments)).clamp(min=0) * seen  # (B, T, T)
        none = [keys.new_zeros(rows, keys.shape[1], 0, keys.shape[3]) for keys in layers]
        past = Past(
            (moments + 1).repeat_interleave(h.shape[1]),
            Kept(episode.new_zeros(rows, 0), tuple(none)),
            Kept(life.transpose(0, 1).flatten(0, 1), layers),
        )
        return State(h.flatten(0, 1), states.z.flatten(0, 1), states.c.flatten(0, 1), past.flat())

    @property
    def _layers(self) -> list[Layer]:
        return list(self.layers)  # type: ignore[arg-type]  # torch's list forgets what it holds

    def _tokens(self, z: Tensor, a: Tensor, c: Tensor, episode: Tensor) -> Tensor:
        """x of (T, B, ...): z moves on by one moment, and does not pass from one episode to the next."""
        goes_on = functional.pad((episode[1:] == episode[:-1]).to(z.dtype), (0, 0, 1, 0)).unsqueeze(-1)
        before = goes_on * functional.pad(z[:-1], (0, 0, 0, 0, 1, 0))
        return functional.elu(self.enter(torch.cat([before, a, c], dim=-1)))

    def _seen(self, episode: Tensor) -> Tensor:
        """Which moment attends to which: (T, B) -> (B, T, T) bool."""
        moments = torch.arange(len(episode), device=episode.device)
        distance = moments[:, None] - moments
        same = episode.T.unsqueeze(-1) == episode.T.unsqueeze(-2)
        return same & (distance >= 0) & (distance < self.span)

    def _attend(self, x: Tensor, episode: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """h of (T, B, ...), with keys, values, keys, values, ..., each (B, heads, T, units)."""
        seen, turn = self._seen(episode), self._layers[0].turn(torch.arange(len(x), device=x.device)[:, None])
        kept = list[Tensor]()
        for layer in self._layers:
            q, k, v = (each.permute(1, 2, 0, 3) for each in layer.project(x, turn))
            attended = layer.scores(q, k, seen).softmax(-1) @ v
            x = layer.close(x, attended.permute(2, 0, 1, 3))
            kept += [k, v]
        return unrounded(self.norm(x)), tuple(kept)

    def _advance(self, state: State, a: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """h of the next moment, and what is then remembered."""
        past = self._past(state.memory)
        x = functional.elu(self.enter(torch.cat([state.z, a, state.c], dim=-1)))
        turn = self._layers[0].turn(past.moment)
        itself = torch.ones_like(past.moment).unsqueeze(-1)
        seen = torch.cat([past.own.life, itself], dim=-1).unsqueeze(1) > 0  # (rows, 1, P + 1)
        kept = list[Tensor]()
        for index, layer in enumerate(self._layers):
            q, k, v = layer.project(x, turn)
            keys, values = (
                torch.cat([old, new.unsqueeze(2)], dim=2)
                for old, new in zip(past.own.layers[2 * index : 2 * index + 2], (k, v), strict=True)
            )
            scores = layer.scores(q.unsqueeze(2), keys, seen)  # (rows, heads, 1, P + 1)
            x = layer.close(x, self._sum(layer, q, scores, values, past.common, index))
            kept += [keys, values]
        life = torch.cat([past.own.life - 1, (self.span - 1) * itself], dim=-1).clamp(min=0)
        places = self.span - 1  # whoever is further back is seen by nobody
        own = Kept(life[:, -places:], tuple(each[:, :, -places:] for each in kept))
        common = past.common and past.common._replace(life=(past.common.life - 1).clamp(min=0))
        return unrounded(self.norm(x)), Past(past.moment + 1, own, common).flat()

    def _sum(self, layer: Layer, q: Tensor, scores: Tensor, values: Tensor, common: Kept | None, index: int) -> Tensor:
        """The sum over all moments that a row sees, its own and those in common: (rows, heads, units)."""
        if common is None:
            alone: Tensor = scores.softmax(-1) @ values
            return alone.squeeze(2)
        keys, of_common = common.layers[2 * index : 2 * index + 2]  # (owners, heads, P, units)
        owners, moments = keys.shape[0], keys.shape[2]

        def by_owner(rows: Tensor) -> Tensor:  # (rows, ..., n) -> (owners, ..., rows of each, n)
            return rows.view(-1, owners, *rows.shape[1:]).movedim(0, -2)

        def by_row(blocks: Tensor) -> Tensor:  # and back
            return blocks.movedim(-2, 0).flatten(0, 1)

        of_rows = by_row(layer.scores(by_owner(q), keys, by_owner(common.life) > 0)).unsqueeze(2)
        alpha = torch.cat([of_rows, scores], dim=-1).softmax(-1)  # (rows, heads, 1, moments + P + 1)
        found: Tensor = alpha[..., moments:] @ values
        return by_row(by_owner(alpha[:, :, 0, :moments]) @ of_common) + found.squeeze(2)

    def _past(self, memory: tuple[Tensor, ...]) -> Past:
        """What `Past.flat` made flat."""
        moment, life, *rest = memory
        both = 2 * len(self.layers)
        own, common = Kept(life, tuple(rest[:both])), rest[both:]
        return Past(moment, own, Kept(common[0], tuple(common[1:])) if common else None)
