"""Every optimiser step of every method moves each element along its own gradient, however gradients lie in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from mtrepro.engine.adam import Adam
from mtrepro.specification import method_names
from tests.contract.test_methods import feed, trainer
from tests.contract.test_variants import VARIANTS, settings

FORMS: list[tuple[str, dict[str, Any]]] = [*((name, {}) for name in method_names()), *VARIANTS]


@pytest.mark.parametrize(("method", "changed"), FORMS, ids=[f"{m} {c or 'default'}" for m, c in FORMS])
def test_each_step_is_adams_element_by_element(
    method: str, changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    descend = Adam.descend

    def watched(self: Adam, gradients: Iterable[Tensor | None]) -> None:
        nonlocal steps
        given = list(gradients)
        before = [[each.detach().double() for each in these] for these in (self.parameters, self.first, self.second)]
        descend(self, given)
        for w, m, v, g, t, now in zip(*before, given, self.steps, self.parameters, strict=True):
            if g is None:
                assert torch.equal(now.double(), w)
                continue
            m, v = self.beta1 * m + (1 - self.beta1) * g, self.beta2 * v + (1 - self.beta2) * g.double() ** 2
            m_hat, v_hat = m / (1 - self.beta1 ** t.item()), v / (1 - self.beta2 ** t.item())
            torch.testing.assert_close(now.double(), w - self.rate * m_hat / (v_hat.sqrt() + self.epsilon))
            steps += 1

    monkeypatch.setattr(Adam, "descend", watched)
    fed = trainer(method, settings=settings(method, changed))
    feed(fed, 60)
    for _ in range(min(fed.method.owed, 3)):
        fed.method.learn()
    fed.close()
    assert steps > 0 or not fed.method.parameter_groups()
