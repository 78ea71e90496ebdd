"""Random batches: what they hold, that they repeat, and that a class can be told from them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from service.domain.probe_plan import InputPlan
from service.probing.batches import (
    class_task,
    draw,
    generator_for,
    signal_share,
    stretch,
    token_share,
)


def test_generators_repeat_and_differ_by_path() -> None:
    first, again = generator_for(3, "trial", 1), generator_for(3, "trial", 1)
    drawn = torch.rand(4, generator=first)
    assert drawn.equal(torch.rand(4, generator=again))
    for other in (generator_for(3, "trial", 2), generator_for(4, "trial", 1), generator_for(3)):
        assert not drawn.equal(torch.rand(4, generator=other))


def one(plan: InputPlan, batch_size: int = 256, dtype: torch.dtype = torch.float32) -> Tensor:
    (tensor,) = draw((plan,), batch_size, generator_for(0), dtype)
    return tensor


def test_distributions() -> None:
    normal = one(InputPlan((3, 8)))
    assert normal.shape == (256, 3, 8)
    assert (normal.mean().item(), normal.std().item()) == pytest.approx((0.0, 1.0), abs=0.05)
    uniform = one(InputPlan((8,), distribution="uniform"))
    assert 0.0 <= uniform.min().item() < 0.01
    assert 0.99 < uniform.max().item() <= 1.0
    assert one(InputPlan((8,), distribution="zeros")).eq(0).all()
    assert one(InputPlan((8,), distribution="ones")).eq(1).all()


def test_dtypes() -> None:
    assert one(InputPlan((8,), dtype="float16"), dtype=torch.float64).dtype is torch.float64
    tokens = one(InputPlan((20,), dtype="int32", high=7))
    assert tokens.dtype is torch.int32
    assert set(tokens.flatten().tolist()) == set(range(7))
    mask = one(InputPlan((20,), dtype="bool"))
    assert mask.dtype is torch.bool
    assert 0.4 < mask.float().mean().item() < 0.6


def test_several_inputs_come_in_order() -> None:
    plans = (InputPlan((4,), dtype="int64", high=9), InputPlan((2, 3)))
    tokens, numbers = draw(plans, 5, generator_for(0))
    assert (tokens.shape, numbers.shape) == ((5, 4), (5, 2, 3))


@pytest.mark.parametrize("shape", [(64,), (16, 8), (3, 16, 16), (3, 5, 8, 8), (2,)])
def test_class_inputs_keep_the_scale(shape: tuple[int, ...]) -> None:
    task = class_task((InputPlan(shape),), 10, generator_for(0))
    (inputs,), labels = task.draw(2000, generator_for(1))
    assert inputs.shape == (2000, *shape)
    assert set(labels.tolist()) == set(range(task.classes))
    assert inputs.mean().item() == pytest.approx(0.0, abs=0.1)
    assert inputs.square().mean().item() == pytest.approx(1.0, abs=0.1)


def nearest(inputs: Tensor, labels: Tensor) -> float:
    """Share of the second half that the class means of the first half tell right."""
    flat, half = inputs.flatten(1).double(), len(labels) // 2
    means = torch.stack(
        [flat[:half][labels[:half] == c].mean(0) for c in range(int(labels.max()) + 1)]
    )
    return torch.cdist(flat[half:], means).argmin(1).eq(labels[half:]).double().mean().item()


@pytest.mark.parametrize(
    "plan",
    [
        InputPlan((64,)),
        InputPlan((64,), distribution="uniform"),
        InputPlan((64, 1)),
        InputPlan((1, 8, 8)),
        InputPlan((64,), dtype="bool"),
        InputPlan((2,)),
    ],
)
def test_classes_can_be_told(plan: InputPlan) -> None:
    task = class_task((plan,), 10, generator_for(0))
    (inputs,), labels = task.draw(4000, generator_for(1))
    assert nearest(inputs, labels) > 0.9


@pytest.mark.parametrize(("places", "high"), [(64, 1000), (16, 2), (1, 50)])
def test_tokens_tell_the_class(places: int, high: int) -> None:
    task = class_task((InputPlan((places,), dtype="int64", high=high),), 10, generator_for(0))
    (inputs,), labels = task.draw(4000, generator_for(1))
    assert inputs.dtype is torch.int64
    assert 0 <= inputs.min().item() <= inputs.max().item() < high
    counts = torch.nn.functional.one_hot(inputs, high).float().mean(1)
    assert nearest(counts, labels) > 0.9


def test_uniform_inputs_stay_uniform() -> None:
    task = class_task((InputPlan((64,), distribution="uniform"),), 10, generator_for(0))
    (inputs,), _ = task.draw(4000, generator_for(1))
    shares = inputs.histc(4, 0.0, 1.0) / inputs.numel()
    assert shares.tolist() == pytest.approx([0.25] * 4, abs=0.03)


def test_constant_inputs_stay_constant() -> None:
    plans = (InputPlan((64,)), InputPlan((7,), distribution="zeros"))
    (_, state), _ = class_task(plans, 10, generator_for(0)).draw(32, generator_for(1))
    assert state.eq(0).all()


def test_small_inputs_hold_fewer_classes() -> None:
    assert class_task((InputPlan((2,)),), 10, generator_for(0)).classes == 2
    assert class_task((InputPlan((8,)),), 10, generator_for(0)).classes == 4
    assert class_task((InputPlan((64,)),), 3, generator_for(0)).classes == 3


def test_neighbouring_pixels_agree() -> None:
    (pattern,) = class_task((InputPlan((3, 32, 32)),), 10, generator_for(0)).patterns
    assert pattern[:, :, 0, 0].equal(pattern[:, :, 7, 7])
    assert not pattern[:, :, 0, 0].equal(pattern[:, :, 8, 0])


def test_shares_are_shares() -> None:
    assert signal_share(10**6) < signal_share(4) < 1.0
    assert (1.0 - token_share(1)) <= 0.01 + 1e-12
    assert math.isclose(token_share(512), 0.5)


def test_pooling_leaves_the_class_of_a_sequence() -> None:
    task = class_task((InputPlan((16, 8)),), 4, generator_for(0))
    (inputs,), labels = task.draw(4000, generator_for(1))
    assert nearest(inputs.mean(1), labels) > 0.9


def test_stretch_takes_the_nearest() -> None:
    image = torch.arange(4.0).view(1, 1, 2, 2)
    assert stretch(image, (4, 2))[0, 0].tolist() == [[0, 1], [0, 1], [2, 3], [2, 3]]
    assert stretch(stretch(image, (6, 6)), (2, 2)).equal(image)
