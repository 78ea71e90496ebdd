"""What the members are trained on: the 8×8 digits, looked at in several ways."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from service.domain.probe_plan import InputPlan

CLASSES = 10
TOKENS = 9
"""Shades of a pixel when read as a word."""
WORDS = 32
"""Words of a text."""

FLAT = InputPlan((64,))
IMAGE = InputPlan((1, 16, 16))
SEQUENCE = InputPlan((8, 8))
TEXT = InputPlan((WORDS,), "int64", high=TOKENS)

Rows = tuple[Tensor, Tensor]
"""Inputs and targets of a batch."""


@cache
def digits() -> tuple[Tensor, Tensor]:
    """(pixels 0 … 16 as floats (N, 64), digit (N,))."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return torch.tensor(found.data, dtype=torch.float32), torch.tensor(found.target)


def standardized(pixels: Tensor) -> Tensor:
    """Mean 0, variance 1 over all of them."""
    every, _ = digits()
    return (pixels - every.mean()) / every.std()


def flat(pixels: Tensor, digit: Tensor) -> Rows:
    """64 numbers → digit."""
    return standardized(pixels), digit


def image(pixels: Tensor, digit: Tensor) -> Rows:
    """1×16×16 → digit."""
    small = standardized(pixels).view(-1, 1, 8, 8)
    return functional.interpolate(small, size=16, mode="bilinear"), digit


def rows(pixels: Tensor, digit: Tensor) -> Rows:
    """8 steps of 8 → digit."""
    return standardized(pixels).view(-1, 8, 8), digit


def words(pixels: Tensor, _digit: Tensor) -> Rows:
    """Shades, and the next shade at each place."""
    shades = (pixels // 2).long()[:, 16:]
    return shades[:, :WORDS], shades[:, 1 : WORDS + 1]


def amount(pixels: Tensor, _digit: Tensor) -> Rows:
    """64 numbers → how dark they are together, standardized."""
    x = standardized(pixels)
    sums = x.mean(1, keepdim=True)
    return x, (sums - sums.mean()) / sums.std()


def itself(pixels: Tensor, _digit: Tensor) -> Rows:
    """64 numbers → the same."""
    x = standardized(pixels)
    return x, x


def same_image(pixels: Tensor, digit: Tensor) -> Rows:
    """1×16×16 → the same."""
    x, _ = image(pixels, digit)
    return x, x


def ink(pixels: Tensor, digit: Tensor) -> Rows:
    """1×16×16 → paper, edge or ink at each pixel."""
    x, _ = image(pixels, digit)
    return x, (x > -0.5).long()[:, 0] + (x > 0.8).long()[:, 0]
