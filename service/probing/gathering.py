"""From the taps to the numbers: small tensors wait for others of their kind, and what was reckoned
is read in one go after the pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from service.probing.figures import Reduction, reckoned

Then = Callable[[Tensor], None]
"""What to do with one tensor's numbers, float64 on the CPU, a row for each pass (see the reduction
for their order)."""
TOGETHER = 1 << 15
"""Elements from which a tensor is reduced by itself: a call costs little beside it."""
HELD = 1 << 18
"""Elements that wait at most: a mebibyte of float32, which stays in a core's cache."""


class Gathering:
    """The numbers of one pass."""

    def __init__(self) -> None:
        self._waiting: dict[
            tuple[Reduction, torch.Size, torch.dtype, torch.device], list[tuple[Tensor, Then]]
        ] = {}
        self._held = 0
        self._asked: list[tuple[Tensor, Then]] = []

    def add(
        self, reduction: Reduction, tensor: Tensor, then: Then, *, at_once: bool = False
    ) -> None:
        """Reduce a tensor (P, B, …) of P passes, now or (unless `at_once`: its elements may change)
        with others; `then` gets P rows of numbers when they are read."""
        tensor = as_samples(tensor)
        count = tensor.numel()
        if count == 0:
            return
        if at_once or count >= TOGETHER:
            self.ask(reckoned(reduction, tensor), then)
            return
        key = (reduction, tensor.shape, tensor.dtype, tensor.device)
        self._waiting.setdefault(key, []).append((tensor, then))
        self._held += count
        if self._held >= HELD:
            self._reduce()

    def ask(self, numbers: Tensor, then: Then) -> None:
        """Have numbers read with the others."""
        self._asked.append((numbers, then))

    def read(self) -> None:
        """Everything asked for so far, in one transfer."""
        self._reduce()
        asked, self._asked = self._asked, []
        if not asked:
            return
        # What was never on the device, as an empty list of norms, is not sent there.
        there = [numbers for numbers, _ in asked if numbers.device.type != "cpu"]
        sent = iter(_together(there).cpu().split([one.numel() for one in there]) if there else ())
        own = [numbers for numbers, _ in asked if numbers.device.type == "cpu"]
        kept = iter(_together(own).split([one.numel() for one in own]) if own else ())
        parts = [next(kept if n.device.type == "cpu" else sent) for n, _ in asked]
        for (numbers, then), part in zip(asked, parts, strict=True):
            then(part.view(numbers.shape))

    def _reduce(self) -> None:
        waiting, self._waiting, self._held = self._waiting, {}, 0
        for (reduction, *_), members in waiting.items():
            tensors = [tensor for tensor, _ in members]
            found = reckoned(reduction, tensors[0] if len(tensors) == 1 else torch.cat(tensors))
            self.ask(found, _Each([then for _, then in members], len(tensors[0])))


def _together(numbers: list[Tensor]) -> Tensor:
    return torch.cat([one.detach().reshape(-1).double() for one in numbers])


class _Each:
    """Deals the rows out, so many to each."""

    def __init__(self, members: list[Then], rows: int) -> None:
        self._members = members
        self._rows = rows

    def __call__(self, rows: Tensor) -> None:
        for then, own in zip(self._members, rows.split(self._rows), strict=True):
            then(own)


def as_samples(tensor: Tensor) -> Tensor:
    """Detached, real, at least (P, B, elements)."""
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor.reshape(len(tensor), -1, 1) if tensor.ndim < 3 else tensor
