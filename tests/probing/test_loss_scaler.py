"""The loss scale follows the gradients as torch.amp.GradScaler's does."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from service.probing.loss_scaler import GROWTH_INTERVAL, START, LossScaler, Unscaled

SIZES = [1.0, math.inf, 1.0, math.nan, math.inf, 1e-6, 1.0]
"""Of the gradients, step by step."""


@pytest.mark.parametrize("steps", [len(SIZES), GROWTH_INTERVAL + len(SIZES)])
def test_it_is_torchs_own_rule(steps: int) -> None:
    parameter = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    theirs, ours = torch.amp.GradScaler("cpu"), LossScaler()
    theirs.scale(torch.ones(()))  # from here on it has a scale
    assert theirs.get_scale() == START
    mine = torch.zeros(3)
    sizes = [*SIZES, *(1.0 for _ in range(steps - len(SIZES)))]
    for size in sizes:
        gradient = torch.full((3,), size)
        parameter.grad = gradient * theirs.get_scale()
        theirs.step(optimizer)
        theirs.update()
        gradients = [gradient * ours.scale]
        if ours.unscale(gradients):
            mine -= 0.5 * gradients[0]
        assert ours.scale == theirs.get_scale()
        assert torch.equal(mine, parameter.detach())
    assert ours.scale == START / 8.0 * (2.0 if steps > GROWTH_INTERVAL else 1.0)


def test_without_one_nothing_is_touched() -> None:
    loss, gradients = torch.tensor(2.0), [torch.tensor([math.inf, 1.0])]
    scaler = Unscaled()
    assert scaler.scaled(loss) is loss
    assert scaler.unscale(gradients)
    assert gradients[0].tolist() == [math.inf, 1.0]
