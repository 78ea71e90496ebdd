"""Gradients of large parameters are looked at as they arrive, and not kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from service.domain.architecture import resolve
from service.domain.measurements import Measurements
from service.domain.probe_plan import InputPlan, OptimizerPlan, ProbePlan
from service.probing import gradients, probe, seeds
from service.probing.loaders.loaded import loaded
from service.probing.session import Session
from tests.probing import models

EVERY, NONE = 1, 1 << 60
OPTIMIZER = OptimizerPlan("sgd", 0.1)


class Tied(nn.Module):
    """A weight read twice, a bias added twice, and a parameter that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6) / 3)
        self.bias = nn.Parameter(torch.zeros(6))
        self.idle = nn.Parameter(torch.ones(3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(x @ self.weight + self.bias)
        return hidden @ self.weight.t() + self.bias


class Embedded(nn.Module):
    """Gradients of an embedding come as rows."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6, sparse=True)
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.table(x).mean(1))
        return logits


FLOATS = InputPlan((6,))
CASES: dict[str, tuple[Callable[[], nn.Module], InputPlan]] = {
    "perceptron": (lambda: models.mlp(3, 8, nn.ReLU, inputs=6), FLOATS),
    "overflowing": (
        lambda: models.mlp(3, 8, nn.ReLU, inputs=6, init=lambda w: nn.init.constant_(w, 1e30)),
        FLOATS,
    ),
    "tied": (Tied, FLOATS),
    "embedded": (Embedded, InputPlan((5,), "int64", high=11)),
    "transformer": (models.transformer, InputPlan((5, 16))),
}


def measured(case: str, large: int, patch: pytest.MonkeyPatch) -> Measurements:
    patch.setattr(probe, "LARGE", large)
    patch.setattr(seeds, "seeds_together", lambda *_: 0)
    made, inputs = CASES[case]
    plan = ProbePlan(
        inputs=(inputs,), batch_size=4, batches=3, seeds=2, trial_steps=0,
        optimizer=OPTIMIZER, budget_seconds=600.0,
    )  # fmt: skip
    torch.manual_seed(0)
    return Session(loaded("torchscript", made(), mode="train", dtype=torch.float32), plan).measure()


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_are_the_same(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = measured(case, NONE, monkeypatch)
    assert repr(measured(case, EVERY, monkeypatch)) == repr(expected)


def test_what_is_summed_of_16_bits_has_32(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [{"type": "Linear", "args": {"out_features": 5}}]
    plan = ProbePlan(batch_size=4, batches=3, precision="pure_bfloat16", trial_steps=0)
    told = []
    for large in (NONE, EVERY):
        monkeypatch.setattr(probe, "LARGE", large)
        which = resolve({"input": {"shape": [6]}, "layers": layers})
        told.append(repr(Session.open(plan, which, None).measure()))
    assert told[0] == told[1]


def test_nothing_large_is_kept_but_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """What autograd answers with in place of a gradient holds one element."""
    monkeypatch.setattr(probe, "LARGE", EVERY)
    monkeypatch.setattr(seeds, "seeds_together", lambda *_: 0)
    true_gradients = gradients.gradients_of
    held: list[int] = []

    def gradients_of(value: torch.Tensor, tensors: list[torch.Tensor]) -> object:
        found = true_gradients(value, tensors)
        own = [g for g, t in zip(found, tensors, strict=True) if isinstance(t, nn.Parameter)]
        held.extend(g.untyped_storage().nbytes() for g in own if g is not None)
        return found

    monkeypatch.setattr(probe, "gradients_of", gradients_of)
    made, inputs = CASES["perceptron"]
    plan = ProbePlan(inputs=(inputs,), batch_size=4, batches=2, seeds=1, trial_steps=0)
    model = loaded("torchscript", made(), mode="train", dtype=torch.float32)
    session = Session(model, plan)
    session.measure()
    assert held
    assert set(held) == {4}
    assert not any(parameter._backward_hooks for parameter in model.parameters.values())
