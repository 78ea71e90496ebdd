"""One tensor to numbers. Cheap first (dot, aminmax), exact where cheap would lie; many tensors at
once are the business of `figures`.

Sums of squares of float32 overflow above 1e19 and vanish below 1e-19, just where exploding and
vanishing models live: outside a safe range the tensor is scaled by its largest element first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

SAFE_LOW, SAFE_HIGH = 1e-12, 1e12
"""Largest elements between which squares of float32 neither underflow nor overflow in a sum."""
SAMPLE = 1 << 14
"""Elements that fractions are counted on in larger tensors, evenly spread (standard error of a
fraction ≤ .004, of the twelve of a probe ≤ .0012)."""
EXACT = 1 << 20
"""Elements up to which cosines are summed in float64."""
FP16_TINY = 2.0**-25
"""Numbers up to half the smallest subnormal of float16 round to 0 (IEEE 754)."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a tensor's elements are; all None when any is not finite."""

    count: int
    norm: float | None
    """Frobenius norm."""
    abs_max: float | None
    nonfinite: int

    @property
    def rms(self) -> float | None:
        """norm / √count."""
        return None if self.norm is None else self.norm / math.sqrt(max(self.count, 1))


@torch.no_grad()
def size_of(tensor: Tensor) -> Size:
    """Norm and largest element of a real or complex tensor."""
    flat = _flat(_pairs(tensor))
    count = flat.numel()
    if count == 0:
        return Size(0, 0.0, 0.0, 0)
    low, high = (float(bound) for bound in torch.aminmax(flat))
    top = max(-low, high)
    if not math.isfinite(low) or not math.isfinite(high):
        return Size(count, None, None, count - int(flat.isfinite().sum()))
    if top == 0.0:
        return Size(count, 0.0, 0.0, 0)
    if SAFE_LOW < top < SAFE_HIGH:
        return Size(count, math.sqrt(float(torch.dot(flat, flat))), top, 0)
    wide = flat.double() / top
    return Size(count, math.sqrt(float(torch.dot(wide, wide))) * top, top, 0)


@torch.no_grad()
def unit_std(tensor: Tensor, *, by_channel: bool) -> Tensor:
    """Root mean square over units of their standard deviation (biased) over the samples of a
    batch, a scalar; a unit is a channel at all its places, or one number per sample. Counted on
    `SAMPLE` elements, evenly spread, of larger tensors."""
    tensor = _pairs(tensor)
    rows = tensor.detach().flatten(2 if by_channel and tensor.ndim > 2 else 1)
    step = max(rows.numel() // SAMPLE, 1)
    rows = rows[..., :: step | 1].double()
    dims = [0, 2] if rows.ndim > 2 else [0]
    return rows.var(dims, correction=0).mean().sqrt()


@torch.no_grad()
def sample_norms(tensor: Tensor) -> Tensor:
    """Norm per sample, shape (B,), float64 so that neither end of the scale is lost."""
    tensor = _pairs(tensor)
    rows = tensor.detach().flatten(1) if tensor.ndim > 1 else tensor.detach().unsqueeze(1)
    top = rows.abs().amax()
    safe = SAFE_LOW < float(top) < SAFE_HIGH
    norms: Tensor = torch.linalg.vector_norm(rows if safe else rows.double(), dim=1)
    return norms.double()


def _pairs(tensor: Tensor) -> Tensor:
    """Complex numbers as pairs of real ones, in a last dimension of their own."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _flat(tensor: Tensor) -> Tensor:
    flat = tensor.detach().reshape(-1)
    return flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
