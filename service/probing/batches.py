"""What the model is fed: random batches, and batches that carry a class to be learned.

Everything is drawn from generators seeded by `generator_for`, so the same request gives the same
numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from service.domain.probe_plan import InputPlan

SIGNAL_SHARE = 0.3
"""Least share of an input element's variance that tells the class."""
SIGNAL_TO_NOISE = 16.0
"""Least ‖class pattern‖² / noise variance over the whole input: class centres then lie about
√(2·16) ≈ 5.7 noise standard deviations apart, so that nearly every sample can be told."""
TOKEN_SHARE = 0.5
"""Least share of integers drawn from the class's own tokens; the rest are uniform."""
TOKENS = 4
"""Tokens a class owns, at most."""
GRID = 4
"""Class patterns of images vary on a grid of 4 × 4: nearby pixels agree, as in real images."""


def generator_for(seed: int, *path: int | str) -> torch.Generator:
    """A generator of its own for each (seed, path), independent of the order of calls."""
    digest = hashlib.blake2b(repr((seed, path)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def draw(
    inputs: tuple[InputPlan, ...],
    batch_size: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, ...]:
    """One batch without any class: a tensor (batch_size, *shape) per input.

    Floating inputs come in `dtype` (the probe's precision), drawn as their plan's distribution
    says; integers uniform in 0 … high-1; bool fair.
    """
    return tuple(_draw(plan, batch_size, generator, dtype) for plan in inputs)


def _draw(
    plan: InputPlan, batch_size: int, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    shape = (batch_size, *plan.shape)
    kind = getattr(torch, plan.dtype)
    if kind is torch.bool:
        return torch.randint(0, 2, shape, generator=generator).bool()
    if not kind.is_floating_point:
        return torch.randint(0, plan.high or 2, shape, generator=generator, dtype=kind)
    if plan.distribution == "normal":
        return torch.randn(shape, generator=generator, dtype=dtype)
    if plan.distribution == "uniform":
        return torch.rand(shape, generator=generator, dtype=dtype)
    return torch.full(shape, 1.0 if plan.distribution == "ones" else 0.0, dtype=dtype)


@dataclass(frozen=True, slots=True)
class ClassTask:
    """K classes that every input of the model shows: Gaussian clusters for floating inputs, the
    class's own tokens for integers. Floating inputs keep the mean and variance of their plan's
    distribution, so the model sees inputs on the scale it was probed with."""

    inputs: tuple[InputPlan, ...]
    """One per model input."""
    classes: int
    """K ≥ 2."""
    patterns: tuple[Tensor, ...]
    """Per input: class means of unit variance (K, *shape), or the classes' tokens (K, n)."""
    dtype: torch.dtype
    """Of floating inputs."""

    def draw(
        self, batch_size: int, generator: torch.Generator
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """A fresh batch and its classes, int64 (batch_size,)."""
        labels = torch.randint(0, self.classes, (batch_size,), generator=generator)
        pairs = zip(self.inputs, self.patterns, strict=True)
        return tuple(self._show(plan, own, labels, generator) for plan, own in pairs), labels

    def _show(
        self, plan: InputPlan, pattern: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Tensor:
        if _is_token(plan):
            plain = _draw(plan, len(labels), generator, self.dtype)
            return _mark(plain, pattern[labels], generator)
        if plan.distribution in ("zeros", "ones"):
            return _draw(plan, len(labels), generator, self.dtype)
        share = signal_share(math.prod(plan.shape))
        shown = torch.randn(pattern[labels].shape, generator=generator, dtype=self.dtype)
        shown.mul_(math.sqrt(1.0 - share)).add_(pattern[labels], alpha=math.sqrt(share))
        if plan.dtype == "bool":
            return shown > 0
        return torch.special.ndtr(shown) if plan.distribution == "uniform" else shown


def class_task(
    inputs: tuple[InputPlan, ...],
    classes: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> ClassTask:
    """Draw the classes: at most `classes`, fewer where the inputs are too small for as many."""
    room = max((_room(plan) for plan in inputs), default=2)
    classes = max(2, min(classes, room))
    patterns = tuple(_pattern(plan, classes, generator, dtype) for plan in inputs)
    return ClassTask(inputs, classes, patterns, dtype)


def signal_share(elements: int) -> float:
    """Share of the variance that tells the class, for so many elements per sample, 0 … 1."""
    return max(SIGNAL_SHARE, SIGNAL_TO_NOISE / (SIGNAL_TO_NOISE + elements))


def token_share(places: int) -> float:
    """Share of a sample's tokens that tell the class: at most 1 % of samples show none."""
    return max(TOKEN_SHARE, 1.0 - math.pow(0.01, 1.0 / max(places, 1)))


def _is_token(plan: InputPlan) -> bool:
    return plan.dtype != "bool" and not getattr(torch, plan.dtype).is_floating_point


def _room(plan: InputPlan) -> int:
    """Classes that an input can hold apart: half its dimensions, or half its vocabulary."""
    return (plan.high or 2) // 2 if _is_token(plan) else math.prod(plan.shape) // 2


def _pattern(
    plan: InputPlan, classes: int, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    if _is_token(plan):
        high = plan.high or 2
        own = max(1, min(TOKENS, high // classes))
        places = torch.arange(classes * own) % high
        return torch.randperm(high, generator=generator)[places].view(classes, own)
    drawn = _means(plan.shape, classes, generator, dtype)
    drawn -= drawn.mean(0)
    return drawn / drawn.square().mean().sqrt()


def _means(
    shape: tuple[int, ...], classes: int, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    """Class means before scaling: white for vectors; for sequences an offset per step and feature
    besides; for (channels, height, width, …) a coarse grid and an offset per channel. Pooling
    over steps or pixels then leaves the class visible."""
    is_image = len(shape) >= 3
    coarse = (shape[0], *(min(size, GRID) for size in shape[1:])) if is_image else shape
    means = torch.randn((classes, *coarse), generator=generator, dtype=dtype)
    means = stretch(means, shape[1:])
    for dim, size in enumerate(shape):
        if (is_image and dim == 0) or (len(shape) == 2 and size > 1):
            offset = torch.randn((classes, size), generator=generator, dtype=dtype)
            means += offset.view(classes, *(size if at == dim else 1 for at in range(len(shape))))
    return means


def stretch(image: Tensor, sizes: Sequence[int]) -> Tensor:
    """Dimensions 2, 3, … of `image` at these sizes, by the nearest element."""
    for dim, size in enumerate(sizes, start=2):
        if image.shape[dim] != size:
            image = image.index_select(dim, torch.arange(size) * image.shape[dim] // size)
    return image


def _mark(plain: Tensor, tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Replace a share of each sample's integers (B, …) by tokens (B, n) of its class."""
    places = math.prod(plain.shape[1:])
    pick = torch.randint(0, tokens.shape[1], (len(plain), places), generator=generator)
    chosen = tokens.gather(1, pick).view_as(plain).to(plain.dtype)
    told = torch.rand(plain.shape, generator=generator) < token_share(places)
    return torch.where(told, chosen, plain)
