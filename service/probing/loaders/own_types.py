"""The types of a spec that torch.nn lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from operator import add, mul
from types import MappingProxyType

import torch
from torch import Tensor, nn


class Add(nn.Module):
    """Sum of its inputs."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return reduce(add, inputs)


class Multiply(nn.Module):
    """Product of its inputs, number by number."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return reduce(mul, inputs)


class Concat(nn.Module):
    """Its inputs joined along `dim`."""

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, self.dim)


class MatMul(nn.Module):
    """Matrix product over the last two dimensions."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return first @ second


class LastStep(nn.Module):
    """The last time step: (batch, time, …) → (batch, …)."""

    def forward(self, steps: Tensor) -> Tensor:
        return steps[:, -1]


class NoisyReLU(nn.Module):
    """max(0, x + N(0, sigmoid(x))), the second number a variance; without noise in evaluation
    (Nair & Hinton 2010, Rectified linear units improve restricted Boltzmann machines, section 2).
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            # the noise is drawn, not learnt; far below 0 its slope would be 0 · ∞
            x = x + torch.sigmoid(x.detach()).sqrt() * torch.randn_like(x)
        return torch.relu(x)


class Parameter(nn.Module):
    """Numbers that are learned, the same for every sample: of its input only the batch counts."""

    def __init__(self, size: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight.expand(len(x), *self.weight.shape)


class Scale(nn.Module):
    """factor·x + offset, with numbers that are not learned."""

    def __init__(self, factor: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        self.factor = factor
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.offset


class Exponential(nn.Module):
    """eˣ."""

    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


class Squareplus(nn.Module):
    """(x + √(x² + 4))/2 (Barron 2021, arXiv:2112.11687)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.lerp(x, (x * x + 4).sqrt(), 0.5)


class SparsePlus(nn.Module):
    """x above 1, (x + 1)²/4 within ±1, 0 below: the integral of clip(x/2 + 1/2, 0, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x.abs() < 1, (x + 1).square() / 4, x.clamp_min(0))


OWN_MODULES = (
    Add,
    Multiply,
    Concat,
    MatMul,
    LastStep,
    Scale,
    NoisyReLU,
    Exponential,
    Squareplus,
    SparsePlus,
    Parameter,
)
OWN_TYPES: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {module.__name__: module for module in OWN_MODULES}
)
"""By name."""
