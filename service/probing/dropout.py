"""Dropout in a recorded graph: where it is, and how to make it hide less.

torch draws a mask into a tensor of its own with a probability 1 - p to keep (`bernoulli_`) and
turns it into factors: dropout divides it by 1 - p; alpha dropout multiplies it by a and adds
α a (m - 1) + α a p, with a = 1/√((1 + α² p)(1 - p)), so that mean 0 and variance 1 stay (Klambauer
et al. 2017, arXiv:1706.02515, §3). Only these numbers depend on p: a change of p is a change of
them, wherever the mask comes from (whole channels, attention, between recurrent layers).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import fx

from service.probing import operations
from service.probing.layering import Layer

ALPHA = 1.7580993408473766
"""-α' of alpha dropout: what SELU tends to on the left, times -1 (torch's own constant)."""
Number = Callable[[float], float]
"""From p to the number that stands in the graph."""


@dataclass(frozen=True, slots=True)
class Dropout:
    """One place where a mask is drawn."""

    draw: fx.Node
    """The operation that draws it."""
    p: float
    """Share that is hidden, 0 … 1."""
    numbers: tuple[tuple[fx.Node, Number], ...]
    """Operations whose second argument depends on p, and how."""

    def hide(self, p: float, copies: Mapping[fx.Node, fx.Node]) -> None:
        """Set another p, 0 ≤ p < 1, in a copy of the graph."""
        for node, number in self.numbers:
            first, *others = copies[node].args
            copies[node].args = (first, number(p), *others[1:])


def dropouts(graph: fx.Graph) -> Iterator[Dropout]:
    """Every one of a recorded graph, in order; masks that are used in another way are left out."""
    for node in graph.nodes:
        if operations.name_of(node) == "native_dropout":
            yield Dropout(node, float(node.args[1]), ((node, _p),))
        elif operations.name_of(node) == "bernoulli":
            kept = node.args[1] if len(node.args) > 1 else 0.5  # torch's default is left out
            numbers = _divided(node, kept) or _alpha(node)
            if isinstance(kept, float) and numbers:
                yield Dropout(node, 1.0 - kept, ((node, _kept), *numbers))


def by_layer(graph: fx.Graph, layers: Sequence[Layer]) -> dict[int, tuple[float, ...]]:
    """The p of each layer's dropouts, in order, by the layer's index; what stands before the first
    layer counts to it."""
    owner = {node: layer.index for layer in layers for node in layer.nodes}
    found: dict[int, tuple[float, ...]] = {}
    for one in dropouts(graph):
        index = owner.get(one.draw, 0)
        found[index] = (*found.get(index, ()), round(one.p, 6))
    return found


def _divided(mask: fx.Node, kept: object) -> tuple[tuple[fx.Node, Number], ...]:
    found = [
        user
        for user in mask.users
        if operations.name_of(user) == "div" and user.args[:2] == (mask, kept)
    ]
    return tuple((node, _kept) for node in found)


def _alpha(mask: fx.Node) -> tuple[tuple[fx.Node, Number], ...]:
    """The mask itself is scaled, and so is what is added where it hides."""
    shifted = _reader(mask, "add", -1)
    scaled = shifted and _reader(shifted, "mul")
    added = scaled and _reader(scaled, "add")
    factor = _reader(mask, "mul")
    if not (scaled and added and factor):
        return ()
    return ((scaled, lambda p: ALPHA * _a(p)), (added, lambda p: ALPHA * _a(p) * p), (factor, _a))


def _reader(node: fx.Node, name: str, number: float | None = None) -> fx.Node | None:
    """The operation of this name that combines a node with a number."""
    for user in node.users:
        if operations.name_of(user) == name and user.args[0] is node:
            told = user.args[1]
            if isinstance(told, int | float) and number in {None, told}:
                return user
    return None


def _p(p: float) -> float:
    return p


def _kept(p: float) -> float:
    return 1.0 - p


def _a(p: float) -> float:
    return 1.0 / math.sqrt((1.0 + ALPHA * ALPHA * p) * (1.0 - p))
