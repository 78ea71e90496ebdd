"""A layer's own path from its data input to its output, cut into parts.

Norms of the gradient where one part ends and the next begins give each part's factor; the factors
multiply to the layer's gain exactly, since nothing else enters or leaves between.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import fx

from service.probing import operations

WEIGHT, ACTIVATION, OTHER = "weight", "activation", "other"
RESIDUAL = "residual"
"""Another layer's output is added: the gradient passes unchanged."""
OWN_RESIDUAL = "own_residual"
"""The layer adds its own input, which thereby gets a second gradient."""
NORMALIZATION = "normalization"
"""Any normalization that is not one of `TOLD_APART`."""
BATCH_NORM = "batch_norm"
TOLD_APART = frozenset({BATCH_NORM, "layer_norm", "rms_norm"})
NO_GRADIENT = frozenset(
    {"detach", "empty_like", "zeros_like", "ones_like", "randn_like", "rand_like", "empty"}
)
"""Operations that no gradient passes."""
BRANCHING = frozenset({"rnn", "lstm", "gru", "attention", "embedding"})
"""Layers that are no chain of parts."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the path."""

    kind: str
    """weight, activation, batch_norm, layer_norm, rms_norm, normalization, residual, own_residual
    or other."""
    end: fx.Node
    """The tensor that leaves it; it begins where the one before ends."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The whole path."""

    parts: tuple[Part, ...]
    """From the data input to the output; neighbours differ in kind."""
    branch_users: tuple[fx.Node, ...] = ()
    """Where the layer adds its own input to what its weights make of it: who reads the input on
    the way to the weights; the first part then begins there."""
    reads: float | None = None
    """Elements of the input that an element of the weights' output is computed from, on average:
    fan_in, less what zero padding takes away."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of the parts, in order."""
        return tuple(part.kind for part in self.parts)


def chain_of(
    entry: fx.Node,
    users: Sequence[fx.Node],
    output: fx.Node,
    *,
    nodes: Sequence[fx.Node],
    data: Collection[fx.Node],
    residual: bool,
) -> Chain | None:
    """The path from `entry`, read by `users`, to `output`; None where it is no chain of parts.

    `nodes`: the graph's nodes that may lie between, in order; `data`: those that depend on an
    input; `residual`: whether another layer's output is added on the way.
    """
    path = _Path(entry, users, output, nodes, data, residual)
    if not path.nodes:
        return None
    ends = path.bottlenecks()
    skip = path.own_skip(ends[0]) if ends else None
    if skip is not None:
        inner = _Path(entry, [u for u in users if u is not skip[0]], skip[1], nodes, data, False)
        parts = _parts(inner, inner.bottlenecks())
        rest = _parts(path, ends[1:], start=ends[0])
        if parts is None or rest is None:
            return None
        parts = [*parts, Part(OWN_RESIDUAL, ends[0]), *rest]
        branch = tuple(user for user in users if user in inner.nodes)
    else:
        parts, branch = _parts(path, ends), ()
    if not parts:
        return None
    return Chain(tuple(parts), branch, path.reads())


class _Path:
    """All nodes that a gradient passes between entry and output."""

    def __init__(
        self,
        entry: fx.Node,
        users: Sequence[fx.Node],
        output: fx.Node,
        nodes: Sequence[fx.Node],
        data: Collection[fx.Node],
        residual: bool,
    ) -> None:
        self.entry, self.users, self.output = entry, set(users), output
        self.data, self.residual = data, residual
        reached = {node for node in users if _passes(node)}
        for node in nodes:
            if node not in reached and _passes(node) and self._from(node, reached):
                reached.add(node)
        needed = {output} & reached
        for node in reversed(nodes):
            if node in needed:
                needed.update(source for source in node.all_input_nodes if source in reached)
        self.nodes = [node for node in nodes if node in needed]

    def _from(self, node: fx.Node, reached: Collection[fx.Node]) -> bool:
        return any(source in reached for source in node.all_input_nodes)

    def sources(self, node: fx.Node) -> list[fx.Node]:
        """What a node reads of the path."""
        own = set(self.nodes)
        return [
            source
            for source in node.all_input_nodes
            if source in own or (source is self.entry and node in self.users)
        ]

    def bottlenecks(self) -> list[fx.Node]:
        """The tensors that all of the path passes through, in order: no edge leads past them."""
        place = {self.entry: -1} | {node: index for index, node in enumerate(self.nodes)}
        reach = max((place[node] for node in self.nodes if node in self.users), default=-1)
        found = []
        for index, node in enumerate(self.nodes):
            if reach <= index and "shape" in node.meta:
                found.append(node)
            reach = max([reach, *(place[user] for user in node.users if user in place)])
        return found

    def own_skip(self, end: fx.Node) -> tuple[fx.Node, fx.Node] | None:
        """When `end` adds the entry itself to what comes of it: (who reads the entry for that,
        the other summand)."""
        if operations.name_of(end) != "add" or end.kwargs.get("alpha", 1) != 1:
            return None
        sources = self.sources(end)
        others = [source for source in sources if source is not self.entry]
        if len(sources) != 2 or len(others) != 1:
            return None
        return end, others[0]

    def reads(self) -> float | None:
        """See `Chain.reads`."""
        for node in self.nodes:
            if operations.name_of(node) in operations.WEIGHTED:
                return reads_of(node)
        return None


def _parts(path: _Path, ends: Sequence[fx.Node], start: fx.Node | None = None) -> list[Part] | None:
    """The stretches up to each of `ends`, neighbours of one kind joined."""
    parts: list[Part] = []
    for first, end in pairwise([start or path.entry, *ends]):
        kind = _kind(path, _between(path, first, end), end)
        if kind is None:
            return None
        if not parts and kind == "":
            continue
        if kind == "" or (kind == _SCALE and parts and parts[-1].kind in _NORMS):
            # Moves, biases and a normalization's own scale belong to what stands before.
            kind = parts[-1].kind
        kind = WEIGHT if kind == _SCALE else kind
        if parts and parts[-1].kind == kind:
            parts.pop()
        parts.append(Part(kind, end))
    return parts


_SCALE = "scale"
"""Multiplication by a parameter, number by number."""
_NORMS = TOLD_APART | {NORMALIZATION}


def _between(path: _Path, first: fx.Node, end: fx.Node) -> list[fx.Node]:
    begin = path.nodes.index(first) + 1 if first in path.nodes else 0
    return path.nodes[begin : path.nodes.index(end) + 1]


def _kind(path: _Path, nodes: Sequence[fx.Node], end: fx.Node) -> str | None:
    """What a stretch is: "" when the gradient passes it unchanged, None when it cannot be told."""
    names = [operations.name_of(node) for node in nodes]
    if any(name in operations.WEIGHTED for name in names):
        # One matrix by itself; several branches with weights are no chain.
        alone = len(nodes) == 1 and len(_data_inputs(path, end)) == 1
        return WEIGHT if alone else (OTHER if len(nodes) == 1 else None)
    normalization = next((node for node in nodes if _normalization(node)), None)
    if normalization is not None:
        return _normalization(normalization)
    if any(operations.nonlinearity_of(node) for node in nodes):
        return ACTIVATION
    if "rsqrt" in names and "mean" in names:
        return NORMALIZATION if "sub" in names else "rms_norm"
    if len(nodes) > 1:
        return OTHER
    return _single(path, end, names[0])


def _single(path: _Path, node: fx.Node, name: str) -> str:
    if operations.only_moves(node) or name == "_to_copy":
        return ""
    others = [source for source in node.all_input_nodes if source not in path.data]
    foreign = len(_data_inputs(path, node)) > 1
    if name == "add" and node.kwargs.get("alpha", 1) == 1:
        if foreign:
            return RESIDUAL if path.residual else OTHER
        return ""
    if name in {"mul", "div"} and others and not foreign:
        return _SCALE
    return OTHER


def _data_inputs(path: _Path, node: fx.Node) -> list[fx.Node]:
    return [source for source in node.all_input_nodes if source in path.data]


def _normalization(node: fx.Node) -> str | None:
    kind = operations.NORMALIZATIONS.get(operations.name_of(node))
    if kind is None:
        return None
    if kind == "batch_norm" and not operations.normalizes_batch(node):
        return NORMALIZATION
    return kind if kind in TOLD_APART else NORMALIZATION


def _passes(node: fx.Node) -> bool:
    """Whether a gradient may pass."""
    if operations.name_of(node) in NO_GRADIENT:
        return False
    dtype = node.meta.get("dtype")
    return dtype is None or dtype.is_floating_point or dtype.is_complex


def reads_of(node: fx.Node) -> float | None:
    """Elements of its input that an element of a weighted operation's output is computed from, on
    average; None when it cannot be told from the shapes."""
    if "convolution" in operations.name_of(node):
        return _convolution_reads(node)
    shapes = [source.meta["shape"] for source in node.all_input_nodes if "shape" in source.meta]
    out = node.meta.get("shape")
    inner = [shape[-1] for shape in shapes if out is not None and shape[:-1] == out[:-1]]
    return float(inner[0]) if inner else None


def _convolution_reads(node: fx.Node) -> float | None:
    arguments: Any = node.args
    source, weight = arguments[0].meta["shape"], arguments[1].meta["shape"]
    if len(arguments) < 9 or not isinstance(arguments[6], bool):
        return None
    stride, padding, dilation, transposed = arguments[3:7]
    sizes = [source[2:], node.meta["shape"][2:]]
    scanned, written = reversed(sizes) if transposed else sizes
    met: int = math.prod(
        _meetings(
            scanned[axis],
            written[axis],
            weight[2 + axis],
            _of(stride, axis),
            _of(padding, axis),
            _of(dilation, axis),
        )
        for axis in range(len(weight) - 2)
    )
    channels = weight[0] / arguments[8] if transposed else weight[1]
    written_places: int = math.prod(sizes[1])
    return met * float(channels) / written_places


def _meetings(scanned: int, written: int, kernel: int, stride: int, pad: int, step: int) -> int:
    """How often a kernel element falls on an element of the side it scans, along one axis."""
    return sum(
        0 <= place * stride - pad + tap * step < scanned
        for place in range(written)
        for tap in range(kernel)
    )


def _of(values: Sequence[int], axis: int) -> int:
    return values[axis] if axis < len(values) else values[-1]
