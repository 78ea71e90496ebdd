"""How long tensors are: exact whatever their scale, quick where that is usual.

Squares of float32 overflow above 1e19 and vanish below 1e-19: a norm outside `SAFE_LOW` …
`SAFE_HIGH` is reckoned again, from multiples or in float64. Many small tensors are bound by the
cost of a call, large ones by memory: neither is copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from service.probing import reductions
from service.probing.reductions import SAFE_HIGH, SAFE_LOW

BLOCK = 4096
"""Elements of a row whose squares are summed in float32 before float64 takes over: the norm of
equal ones is right to 4e-6 then, of random ones to 2e-7."""
LIFTS = (1e20, 1e38)
"""What tensors are multiplied by that are too small for a sum of squares of float32: from 1e-32,
and from its smallest number."""


@torch.no_grad()
def row_norms(rows: Tensor) -> Tensor:
    """Norms over the last dimension, float64; long rows in blocks, so that float32 sums few."""
    if rows.dtype == torch.float32 and rows.shape[-1] > BLOCK:
        rows = _block_norms(rows).double()
    norms: Tensor = torch.linalg.vector_norm(rows, dim=-1)
    return norms.double()


def _block_norms(rows: Tensor) -> Tensor:
    """(…, n) → (…, ⌈n / BLOCK⌉)."""
    length = rows.shape[-1]
    whole = length - length % BLOCK
    blocks: Tensor = torch.linalg.vector_norm(rows[..., :whole].unflatten(-1, (-1, BLOCK)), dim=-1)
    if whole == length:
        return blocks
    rest = torch.linalg.vector_norm(rows[..., whole:], dim=-1, keepdim=True)
    return torch.cat([blocks, rest], -1)


@torch.no_grad()
def norms_of(tensors: Sequence[Tensor]) -> Tensor:
    """Norm of each tensor, float64 (len,), on their device; not finite where an element is not."""
    if not tensors:
        return torch.zeros(0, dtype=torch.float64)
    # Squares of 16 bits do not fit them.
    tensors = [one.float() if one.dtype.itemsize < 4 else one for one in tensors]
    if tensors[0].device.type != "cpu":
        # Squares of float32 fit float64 whatever they are.
        return torch.stack(torch._foreach_norm(list(tensors), 2, torch.float64))
    norms = _quick_norms(tensors)
    for index, norm in enumerate(norms.tolist()):
        if not SAFE_LOW < norm < SAFE_HIGH:
            norms[index] = _exact_norm(tensors[index])
    return norms


@torch.no_grad()
def norms_in(stack: Tensor) -> Tensor:
    """Norm of each tensor of a stack (P, …), float64 (P,), on its device; see `norms_of`."""
    rows = as_they_lie(stack)
    if rows.device.type != "cpu":
        found: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
        return found
    norms = row_norms(rows)
    for index, norm in enumerate(norms.tolist()):
        if not SAFE_LOW < norm < SAFE_HIGH:
            norms[index] = _exact_norm(rows[index])
    return norms


def _quick_norms(tensors: Sequence[Tensor]) -> Tensor:
    """Right where squares of float32 fit it."""
    places = [index for index, tensor in enumerate(tensors) if tensor.numel() <= BLOCK]
    parts: list[Tensor] = []
    if places:
        parts = [torch.stack(torch._foreach_norm([tensors[index] for index in places]))]
    for index, tensor in enumerate(tensors):
        if tensor.numel() > BLOCK:
            (row,) = as_they_lie(tensor.unsqueeze(0))
            parts.append(_block_norms(row))
            places += [index] * len(parts[-1])
    squares = torch.cat(parts).double().square_()
    norms = torch.zeros(len(tensors), dtype=torch.float64)
    return norms.index_add_(0, torch.tensor(places), squares).sqrt_()


def as_they_lie(stack: Tensor) -> Tensor:
    """(P, …) → (P, elements) in the order of memory, where that spares a copy: gradients of
    matrices that were read transposed come transposed."""
    order = sorted(range(1, stack.ndim), key=stack.stride, reverse=True)
    return stack.permute(0, *order).flatten(1)


def _exact_norm(tensor: Tensor) -> float:
    """Whatever the tensor's scale; NaN when not finite."""
    flat = tensor.reshape(-1)
    for lift in LIFTS if flat.dtype == torch.float32 else ():
        norm = float(row_norms(flat * lift))
        if SAFE_LOW < norm < SAFE_HIGH:
            return norm / lift
    exact = reductions.size_of(tensor).norm
    return math.nan if exact is None else exact
