"""The task encoder of CARE and of mtrl's soft modularization: what is known of a task, as a code for the networks.

Sodhani, Zhang, Pineau, "Multi-Task Reinforcement Learning with Context-based Representations", ICML 2021, as mtrl
builds it. With v_t the frozen embedding of task t's description and c the code size:

    code_t = trunk(relu(A2 relu(A1 relu(v_t)))),  A1: width -> 2c, A2: 2c -> c,  trunk: c-c-c-c, relu between
    code_t = trunk(relu(v_t)) where v_t, of c numbers, is learned too
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtrepro import embeddings
from mtrepro.embeddings import LEARNED
from mtrepro.networks.mlp import mlp


class TaskEncoder(nn.Module):
    """() -> (tasks, code): the codes of all tasks at once; a batch takes its rows from them."""

    def __init__(self, embedding: str, tasks: Sequence[str], code_size: int) -> None:
        super().__init__()
        trunk = mlp(code_size, code_size, 2, code_size)
        self.vectors: Tensor | nn.Parameter
        if embedding == LEARNED:
            self.vectors = nn.Parameter(torch.zeros(len(tasks), code_size))
            self.layers = nn.Sequential(nn.ReLU(), trunk)
        else:
            vectors = torch.from_numpy(embeddings.task_vectors(embedding, tasks))
            self.register_buffer("vectors", vectors, persistent=False)  # the specification knows them by their digest
            narrowing = [nn.Linear(vectors.shape[1], 2 * code_size), nn.ReLU(), nn.Linear(2 * code_size, code_size)]
            self.layers = nn.Sequential(nn.ReLU(), *narrowing, nn.ReLU(), trunk)

    def forward(self) -> Tensor:
        codes: Tensor = self.layers(self.vectors)
        return codes

    def initialise(self, generator: torch.Generator) -> None:
        """N(0, 1) for learned vectors, as torch fills a table of embeddings."""
        if isinstance(self.vectors, nn.Parameter):
            nn.init.normal_(self.vectors, generator=generator)
