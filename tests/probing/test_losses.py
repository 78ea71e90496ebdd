"""Losses against torch.nn's own, and what is guessed from an output."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from service.domain.errors import ModelRaised
from service.probing.losses import LOSSES, choose, guess, named


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize(
    ("shape", "last", "name", "class_dim"),
    [
        ((4, 1), None, "mse", None),
        ((4,), None, "mse", None),
        ((4, 1), "softmax", "mse", None),
        ((4, 7), "log_softmax", "nll", 1),
        ((4, 7), "softmax", "nll_of_softmax", 1),
        ((4, 7), "sigmoid", "bce", None),
        ((4, 1), "sigmoid", "bce", None),
        ((4, 3, 5, 5), "sigmoid", "bce", None),
        ((4, 7), None, "cross_entropy", 1),
        ((4, 7), "relu", "cross_entropy", 1),
        ((4, 6, 30), None, "cross_entropy", 2),
        ((4, 6, 30), "log_softmax", "nll", 2),
        ((4, 6, 1), None, "mse", None),
        ((4, 3, 5, 5), None, "mse", None),
        ((4, 3, 5, 5), "log_softmax", "nll", 1),
    ],
)
def test_guess(shape: tuple[int, ...], last: str | None, name: str, class_dim: int | None) -> None:
    loss = guess(torch.zeros(shape), last)
    assert (loss.name, loss.guessed, loss.class_dim) == (name, True, class_dim)


def test_auto_guesses_and_a_name_does_not() -> None:
    output = torch.zeros(4, 7)
    assert choose("auto", output, None).guessed
    assert choose("mse", output, None) == named("mse", output)
    assert not named("mse", output).guessed


REFERENCES: dict[str, nn.Module] = {
    "cross_entropy": nn.CrossEntropyLoss(),
    "nll": nn.NLLLoss(),
    "mse": nn.MSELoss(),
    "l1": nn.L1Loss(),
    "smooth_l1": nn.SmoothL1Loss(),
    "bce": nn.BCELoss(),
    "bce_with_logits": nn.BCEWithLogitsLoss(),
}


@pytest.mark.parametrize("name", sorted(REFERENCES))
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 2, 3)])
def test_value_and_gradient_are_torchs(name: str, shape: tuple[int, ...]) -> None:
    output = torch.rand(shape, generator=seeded(), dtype=torch.float64, requires_grad=True)
    loss = named(name, output)
    target = loss.target(output.shape, output.dtype, seeded())
    ours = loss.compute(output, target)
    theirs = REFERENCES[name](output, target)
    torch.testing.assert_close(ours, theirs)
    (gradient,) = torch.autograd.grad(ours, output)
    (expected,) = torch.autograd.grad(theirs, output)
    torch.testing.assert_close(gradient, expected)


def test_per_position_classes_stand_last() -> None:
    output = torch.randn(2, 3, 5, generator=seeded())
    loss = guess(output, None)
    target = loss.target(output.shape, output.dtype, seeded())
    assert target.shape == (2, 3)
    flat = nn.functional.cross_entropy(output.reshape(6, 5), target.reshape(6))
    torch.testing.assert_close(loss.compute(output, target), flat)


def test_softmax_output_is_not_squashed_twice() -> None:
    logits = torch.randn(6, 5, generator=seeded())
    loss = guess(logits.softmax(1), "softmax")
    target = loss.target(logits.shape, logits.dtype, seeded())
    expected = nn.functional.cross_entropy(logits, target)
    torch.testing.assert_close(loss.compute(logits.softmax(1), target), expected)


def test_saturated_probabilities_stay_finite() -> None:
    output = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    target = torch.tensor([0, 1])
    assert math.isfinite(guess(output, "softmax").compute(output, target).item())
    binary = guess(output, "sigmoid")
    assert binary.compute(output, 1.0 - output).item() == pytest.approx(100.0)


def test_saturated_sigmoid_passes_a_finite_gradient() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    output = logits.sigmoid()
    loss = named("bce", output).compute(output, torch.eye(2).flip(0))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(100.0)
    assert bool(gradient.isfinite().all())


def test_nan_output_gives_a_nan_loss() -> None:
    output = torch.tensor([[math.nan, 0.5]])
    assert math.isnan(guess(output, "sigmoid").compute(output, torch.ones(1, 2)).item())


def zero_answer(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.full(shape, 0.5) if name == "bce" else torch.zeros(shape)


@pytest.mark.parametrize("name", sorted(set(REFERENCES) - {"nll"}))
def test_chance_is_what_knowing_nothing_costs(name: str) -> None:
    shape = (20_000, 7)
    output = zero_answer(name, shape)
    loss = named(name, output)
    target = loss.target(output.shape, output.dtype, seeded())
    assert loss.chance == pytest.approx(loss.compute(output, target).item(), rel=0.01)


def test_targets_repeat_and_cover_the_classes() -> None:
    output = torch.zeros(500, 7)
    loss = guess(output, None)
    first = loss.target(output.shape, output.dtype, seeded())
    assert first.equal(loss.target(output.shape, output.dtype, seeded()))
    assert set(first.tolist()) == set(range(7))


def test_output_mean_square_needs_no_target() -> None:
    output = torch.full((3, 4), 2.0)
    loss = named("output_mean_square", output)
    assert loss.compute(output, loss.target(output.shape, output.dtype, seeded())).item() == 4.0
    assert loss.chance is None


@pytest.mark.parametrize("name", ["cross_entropy", "nll", "nll_of_softmax"])
@pytest.mark.parametrize("shape", [(4, 1), (4,), (4, 3, 1)])
def test_classes_need_two_outputs(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelRaised, match="at least two classes"):
        named(name, torch.zeros(shape))


def test_bce_wants_probabilities() -> None:
    with pytest.raises(ModelRaised, match="bce_with_logits"):
        named("bce", torch.tensor([[-0.5, 2.0]]))


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(ModelRaised) as error:
        named("hinge", torch.zeros(4, 2))
    assert all(name in str(error.value) for name in LOSSES)
