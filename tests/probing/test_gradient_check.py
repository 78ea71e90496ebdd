"""Two-sided differences: right where autograd is, and where it is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from service.domain.architecture import resolve
from service.domain.measurements import GradientCheck
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing.gradient_check import GradientProbe
from service.probing.loaders.loaded import loaded
from service.probing.losses import Loss
from service.probing.probe import Batch
from service.probing.session import Session
from tests.probing.models import (
    ConvNet,
    LastStepRNN,
    mlp,
    resnet,
    saved,
    scripted,
    transformer,
)


class StraightThrough(nn.Module):
    """Rounds on the way forward, and says on the way back that it did not."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.second = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        hidden = hidden + (torch.sign(hidden) - hidden).detach()
        logits: Tensor = self.second(hidden)
        return logits


class HalfDetached(nn.Module):
    """One of two ways through the same weights passes nothing back."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.second = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        logits: Tensor = self.second(torch.relu(hidden) * torch.sigmoid(hidden).detach())
        return logits


class Rounded(nn.Module):
    """A loss in stairs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.first(x) + torch.round(self.first(x) * 1e4) / 1e3
        return logits


def checked(model: nn.Module, *shape: int, script: bool = False, **given: Any) -> Any:
    plan = ProbePlan(inputs=(InputPlan(shape),), batch_size=8, batches=2, seeds=1, **given)
    if script:
        session = Session.open(plan, None, saved(scripted(model)))
    else:
        dtype = getattr(torch, plan.precision)
        session = Session(loaded("torchscript", model, mode="train", dtype=dtype), plan)
    return session.measure().model.gradient_check


@pytest.mark.parametrize("script", [False, True])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: mlp(4, 32, nn.ReLU), (64,)),
        (lambda: mlp(3, 32, nn.Sigmoid), (64,)),
        (ConvNet, (1, 8, 8)),
        (resnet, (3, 8, 8)),
        (lambda: LastStepRNN("LSTM", 0.3), (5, 8)),
        (lambda: transformer(norm_first=True), (6, 16)),
    ],
)
def test_autograd_is_right(make: Any, shape: tuple[int, ...], script: bool) -> None:
    torch.manual_seed(0)
    found = checked(make(), *shape, script=script)
    assert isinstance(found, GradientCheck)
    assert found.relative_error < 0.02
    assert found.autograd > 0.0


@pytest.mark.parametrize("script", [False, True])
@pytest.mark.parametrize("make", [StraightThrough, HalfDetached])
def test_a_gradient_of_its_own_is_seen(make: Callable[[], nn.Module], script: bool) -> None:
    torch.manual_seed(0)
    found = checked(make(), 8, script=script)
    assert found is not None
    assert found.relative_error > 0.05
    assert found.blocked


def test_float64_is_closer() -> None:
    torch.manual_seed(0)
    found = checked(mlp(3, 32, nn.Tanh), 64, precision="float64")
    assert found is not None
    assert found.relative_error < 1e-6


def test_a_loss_in_stairs_does_not_settle() -> None:
    torch.manual_seed(0)
    assert checked(Rounded(), 8) is None


def test_batch_normalization_is_looked_at_closer_as_well() -> None:
    torch.manual_seed(0)
    found = checked(nn.Sequential(StraightThrough(), nn.BatchNorm1d(10)), 8)
    assert found is not None
    assert found.relative_error > 0.05


def test_checking_leaves_the_model_as_it_was() -> None:
    torch.manual_seed(0)
    model = StraightThrough()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    checked(model, 8)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_plain_spec_blocks_nothing() -> None:
    spec = {"input": {"shape": [8, 4]}, "layers": [{"type": "LSTM", "args": {"hidden_size": 8}}]}
    found = Session.open(ProbePlan(seeds=1), resolve(spec), None).measure().model.gradient_check
    assert found is not None
    assert not found.blocked


@pytest.mark.parametrize(("two_sided", "slope"), [(True, 2.0), (False, 1.0)])
def test_error_falls_as_the_step_or_its_square(two_sided: bool, slope: float) -> None:
    """As ε² two-sided, as ε one-sided, in float64."""
    torch.manual_seed(0)
    model = mlp(2, 16, nn.Tanh).double()
    x, y = torch.randn(8, 64, dtype=torch.float64), torch.randint(0, 10, (8,))
    probe = GradientProbe(
        model,
        list(model.parameters()),
        {},
        Batch((x,), 0, lambda _output, _loss: y),
        Loss("cross_entropy", guessed=True, class_dim=1, classes=10, chance=None),
    )
    gradients = [gradient for gradient in probe.gradients() if gradient is not None]
    exact = math.fsum(float(gradient.square().sum()) for gradient in gradients)
    errors = []
    for step in (1e-2, 1e-3):
        if two_sided:
            found = probe.difference(gradients, step)
        else:
            start = probe.value()
            with torch.no_grad():
                for parameter, gradient in zip(probe.parameters, gradients, strict=True):
                    parameter.add_(gradient, alpha=step)
            found = (probe.value() - start) / step
            with torch.no_grad():
                for parameter, gradient in zip(probe.parameters, gradients, strict=True):
                    parameter.sub_(gradient, alpha=step)
        errors.append(abs(found - exact))
    assert math.log10(errors[0] / errors[1]) == pytest.approx(slope, abs=0.1)
