"""The gain of a layer taken apart: how much each part of its own path passes of the gradient."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from service.probing.chains import (
    ACTIVATION,
    NORMALIZATION,
    OTHER,
    OWN_RESIDUAL,
    RESIDUAL,
    TOLD_APART,
    WEIGHT,
    Chain,
)
from service.probing.figures import Norm
from service.probing.gathering import Gathering

PARTS = (WEIGHT, ACTIVATION, NORMALIZATION, RESIDUAL)
UNEXPLAINED = "unexplained"
PREFIX = "gradient.gain_parts."
WORTH_NAMING = 0.05
"""Relative distance from 1 at which what is none of the parts (dropout, pooling, scaling) is
named."""
_BRANCH = -1
NORM = Norm()


class PathWatch:
    """Norms of the gradient along the layers' own paths, batch by batch."""

    def __init__(self, gathering: Gathering) -> None:
        self._gathering = gathering
        self.chains: dict[int, Chain] = {}
        """By index of the layer."""
        self._norms: dict[tuple[int, int], float | None] = {}

    def end(self, index: int, number: int, tensor: Tensor) -> None:
        """The tensor that ends part `number` of a layer passes."""
        if tensor.requires_grad:
            tensor.register_hook(lambda gradient: self._arrives((index, number), gradient))

    def branch(self, index: int, tensor: Tensor) -> Tensor:
        """The data input of a layer that also adds it to its output passes, on its way to the
        weights; a view of its own, so that its gradient is the branch's alone."""
        own = tensor.view_as(tensor)
        self.end(index, _BRANCH, own)
        return own

    def factors(
        self, index: int, at_entry: float | None, at_output: float | None
    ) -> dict[str, float | None]:
        """What each kind of part multiplies the norm of the gradient by on its way back, by dotted
        statistic name; the product is at_entry / at_output. {} for layers that are no chain."""
        chain = self.chains.get(index)
        if chain is None:
            return {}
        found: dict[str, float | None] = {}
        last = len(chain.parts) - 1
        before = at_entry
        if chain.branch_users:
            before = self._norms.get((index, _BRANCH))
        for number, part in enumerate(chain.parts):
            if part.kind == OWN_RESIDUAL:
                branch = self._norms.get((index, _BRANCH))
                found[PREFIX + RESIDUAL] = _ratio(at_entry, branch)
                continue
            after = at_output if number == last else self._norms.get((index, number))
            name = PREFIX + _named(part.kind)
            found[name] = _product(found.get(name, 1.0), _ratio(before, after))
            before = after
        return found

    def clear(self) -> None:
        """Forget the batch."""
        self._norms.clear()

    def _arrives(self, place: tuple[int, int], gradient: Tensor) -> None:
        def then(row: Tensor) -> None:
            self._norms[place] = NORM.read(row).norm

        self._gathering.add(NORM, gradient, then)


def gain_parts(means: Mapping[str, float | None]) -> dict[str, float | None] | None:
    """weight, activation, normalization, residual (None where a layer has no such part), and
    `unexplained` where the rest is more than `WORTH_NAMING` away from 1; None for layers that are
    no chain. `means`: statistics by dotted name."""
    found = {name.removeprefix(PREFIX): v for name, v in means.items() if name.startswith(PREFIX)}
    if not found:
        return None
    rest = found.pop(UNEXPLAINED, None)
    parts: dict[str, float | None] = {name: found.get(name) for name in PARTS}
    if rest is not None and abs(rest - 1.0) > WORTH_NAMING:
        parts[UNEXPLAINED] = rest
    return parts


def _named(kind: str) -> str:
    if kind in TOLD_APART:
        return NORMALIZATION
    return UNEXPLAINED if kind == OTHER else kind


def _ratio(below: float | None, above: float | None) -> float | None:
    return below / above if above and below is not None else None


def _product(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first * second
