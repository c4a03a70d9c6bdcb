"""The latent state z: Gaussians (v1) or one-hot vectors (v2), each from the outputs of a linear layer.

Noise comes from outside, so that a run's streams are its own and a test can give any.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from mtrepro.engine.precision import unrounded


class Latents(Protocol):
    """A family of distributions of z. `outputs` of a layer, shape (..., outputs), say which one is meant."""

    size: int  # numbers in z
    outputs: int  # numbers that name a distribution
    draws: int  # numbers of noise that a sample takes

    def noise(self, *shape: int, generator: torch.Generator) -> Tensor:
        """Noise for `sample`: (*shape, draws)."""
        ...

    def sample(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """z ~ q, through which gradients pass to the outputs: (..., size)."""
        ...

    def mode(self, outputs: Tensor) -> Tensor:
        """The likeliest z: (..., size)."""
        ...

    def divergence(self, outputs: Tensor, others: Tensor) -> Tensor:
        """KL(q || p), in nats, q and p named by outputs and others: (...,)."""
        ...


class Gaussian:
    """z_i = mu_i + sigma_i eps_i, sigma = softplus(raw) + 0.1 (v1)."""

    MIN_STD = 0.1

    def __init__(self, size: int) -> None:
        self.size, self.outputs, self.draws = size, 2 * size, size

    def noise(self, *shape: int, generator: torch.Generator) -> Tensor:
        """Standard normal."""
        return torch.randn(*shape, self.draws, generator=generator, device=generator.device)

    def sample(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """Reparameterised."""
        mu, sigma = self._split(outputs)
        return mu + sigma * noise

    def mode(self, outputs: Tensor) -> Tensor:
        """The mean."""
        return self._split(outputs)[0]

    def divergence(self, outputs: Tensor, others: Tensor) -> Tensor:
        """sum_i log(sigma_p / sigma_q) + (sigma_q^2 + (mu_q - mu_p)^2) / (2 sigma_p^2) - 1/2."""
        mu_q, sigma_q = self._split(outputs)
        mu_p, sigma_p = self._split(others)
        ratio = sigma_q / sigma_p
        return (0.5 * (ratio.square() + ((mu_q - mu_p) / sigma_p).square() - 1) - ratio.log()).sum(-1)

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        mu, raw = unrounded(outputs).chunk(2, dim=-1)
        return mu, functional.softplus(raw) + self.MIN_STD


class Categorical:
    """`size` one-hot vectors of `classes` entries; the outputs are their logits (v2).

    Straight-through: a sample is one-hot, its gradient that of the probabilities (v2, algorithm 1).
    """

    def __init__(self, vectors: int, classes: int) -> None:
        self.vectors, self.classes = vectors, classes
        self.size = self.outputs = self.draws = vectors * classes

    def noise(self, *shape: int, generator: torch.Generator) -> Tensor:
        """Gumbel noise: the largest of logits plus noise is a sample of the categorical."""
        uniform = torch.rand(*shape, self.draws, generator=generator, device=generator.device)
        return -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))

    def sample(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """one_hot(argmax(logits + noise)) + probabilities - stop(probabilities)."""
        probabilities = self._vectors(outputs).softmax(-1)
        z = self._one_hot(outputs + noise) + (probabilities - probabilities.detach())
        return z.flatten(-2)

    def mode(self, outputs: Tensor) -> Tensor:
        """The likeliest class of each vector, without gradient."""
        return self._one_hot(outputs).flatten(-2)

    def divergence(self, outputs: Tensor, others: Tensor) -> Tensor:
        """sum over vectors and classes of q (log q - log p)."""
        log_q, log_p = (self._vectors(logits).log_softmax(-1) for logits in (outputs, others))
        return (log_q.exp() * (log_q - log_p)).sum((-2, -1))

    def _vectors(self, flat: Tensor) -> Tensor:
        return unrounded(flat.reshape(*flat.shape[:-1], self.vectors, self.classes))

    def _one_hot(self, logits: Tensor) -> Tensor:
        return functional.one_hot(self._vectors(logits).argmax(-1), self.classes).to(logits.dtype)


def divergence_loss(latents: Latents, posterior: Tensor, prior: Tensor, balance: float | None, free: float) -> Tensor:
    """The KL as the model loss counts it; scalar.

    v1 (balance None): max(mean KL(q || p), free). v2 (section 2.2), b the balance, each mean with its own floor:

        b max(mean KL(stop(q) || p), free) + (1 - b) max(mean KL(q || stop(p)), free)

    Args:
        posterior, prior: q and p, (..., outputs); the mean is over all leading dimensions.
        free: nats; a mean below it gives no gradient.
    """
    if balance is None:
        return latents.divergence(posterior, prior).mean().clamp(min=free)
    for_prior = latents.divergence(posterior.detach(), prior).mean().clamp(min=free)
    for_posterior = latents.divergence(posterior, prior.detach()).mean().clamp(min=free)
    return balance * for_prior + (1 - balance) * for_posterior
