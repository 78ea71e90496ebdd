"""What dropout and noise leave of the signal, against what can be worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing.loaders.loaded import loaded
from service.probing.session import Session


def shares(model: nn.Module, batch_size: int = 512) -> list[float | None]:
    torch.manual_seed(6)
    plan = ProbePlan(inputs=(InputPlan((256,)),), batch_size=batch_size, batches=1, seeds=1)
    session = Session(loaded("torchscript", model, mode="train", dtype=torch.float32), plan)
    return [layer.activation.signal_share for layer in session.measure().layers]


def orthogonal() -> nn.Linear:
    layer = nn.Linear(256, 256, bias=False)
    nn.init.orthogonal_(layer.weight)
    return layer


def test_a_model_without_randomness_has_none() -> None:
    assert shares(nn.Sequential(orthogonal(), nn.ReLU(), orthogonal())) == [None, None]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_of_a_centred_signal_leaves_what_it_keeps(p: float) -> None:
    """y = m·x / (1 - p): E[y₁y₂] = x², E[y²] = x² / (1 - p); and an orthogonal map changes
    neither."""
    model = nn.Sequential(orthogonal(), nn.Dropout(p), orthogonal())
    assert shares(model) == pytest.approx([1 - p, 1 - p], abs=0.02)


def test_dropouts_multiply() -> None:
    model = nn.Sequential(
        orthogonal(), nn.Dropout(0.5), orthogonal(), nn.Dropout(0.5), orthogonal(), nn.Dropout(0.5)
    )
    assert shares(model) == pytest.approx([0.5, 0.25, 0.125], abs=0.02)


def test_a_skip_connection_keeps_the_signal() -> None:
    """x + dropout(x), p = ½: covariance 4, variance 5 of x²."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = orthogonal(), orthogonal()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.first(x)
            out: torch.Tensor = self.last(y + nn.functional.dropout(y, 0.5, training=True))
            return out

    assert shares(Block())[-1] == pytest.approx(0.8, abs=0.02)


def test_added_noise_does_not_count_and_hand_made_masks_do() -> None:
    """Larger weights outgrow what is added, a mask grows with them."""

    class Noisy(nn.Module):
        def __init__(self, masked: bool) -> None:
            super().__init__()
            self.first, self.last, self.masked = orthogonal(), orthogonal(), masked

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.first(x)
            y = y + 100.0 * torch.randn_like(y)
            out: torch.Tensor = self.last(
                2.0 * y * (torch.rand_like(y) > 0.5) if self.masked else y
            )
            return out

    assert shares(Noisy(masked=False)) == [None, None]
    assert shares(Noisy(masked=True)) == pytest.approx([0.5, 0.5], abs=0.02)


def test_the_measurement_leaves_no_trace() -> None:
    torch.manual_seed(6)
    model = nn.Sequential(nn.BatchNorm1d(256), nn.Dropout(0.5), orthogonal())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    shares(model, 64)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_constant_output_says_nothing_of_itself() -> None:
    head = nn.Linear(256, 10)
    nn.init.zeros_(head.weight)
    seen = shares(nn.Sequential(orthogonal(), nn.Dropout(0.5), head))
    assert seen[0] == pytest.approx(0.5, abs=0.02)
    assert seen[1] is None


def attainable(model: nn.Module) -> list[float | None]:
    plan = ProbePlan(inputs=(InputPlan((256,)),), batch_size=16, batches=1, seeds=1)
    session = Session(loaded("torchscript", model, mode="train", dtype=torch.float32), plan)
    return [layer.activation.attainable_share for layer in session.measure().layers]


def test_what_the_rates_leave_does_not_depend_on_the_weights() -> None:
    """Small weights, large biases: nothing of the signal passes, though dropout takes a tenth."""
    first, last = nn.Linear(256, 256), nn.Linear(256, 256)
    nn.init.constant_(first.bias, 5.0)
    nn.init.normal_(first.weight, std=1e-4)
    model = nn.Sequential(first, nn.Dropout(0.1), last, nn.AlphaDropout(0.2), nn.Dropout(0.5))
    assert attainable(model) == pytest.approx([0.9, 0.36])
    assert shares(model)[0] == pytest.approx(0.0, abs=0.05)


def test_what_the_rates_leave_goes_by_the_best_path() -> None:
    """The inner layer ends where it joins the skip connection."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.inner, self.last = orthogonal(), orthogonal(), orthogonal()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = nn.functional.dropout(self.first(x), 0.2, training=True)
            inner = nn.functional.dropout(self.inner(y), 0.5, training=True)
            out: torch.Tensor = self.last(y + inner)
            return out

    assert attainable(Block()) == pytest.approx([0.8, 0.8, 0.8])


def test_a_model_without_masks_has_no_bound() -> None:
    assert attainable(nn.Sequential(orthogonal(), nn.ReLU(), orthogonal())) == [None, None]


def test_masks_are_the_same_whatever_stands_between_them() -> None:
    """Operations that draw nothing, as another form of the same network has them."""

    class Copies(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.clone().view(x.shape).clone()

    def network(*between: nn.Module) -> nn.Sequential:
        torch.manual_seed(0)
        first, second = nn.Linear(256, 16), nn.Linear(16, 4)
        return nn.Sequential(*between, first, *between, nn.Dropout(0.8), *between, second)

    assert shares(network(), 32)[-1] == shares(network(Copies()), 32)[-1] != 0.0
