"""Batch normalizations of a recorded graph: whose statistics they use, and over how much."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import fx

from service.domain.measurements import BatchNormalization
from service.probing import operations
from service.probing.layering import Layer

_BATCH_NORMS = frozenset({"native_batch_norm", "cudnn_batch_norm"})
_TRAINING = 5
"""The argument that says whether a batch's own statistics are used."""


def batch_normalizations(graph: fx.Graph, layers: Sequence[Layer]) -> dict[int, BatchNormalization]:
    """The first of each layer that has one, by the layer's index. Instance normalizations run as
    the same operation, over one sample of B·C channels, and are left out."""
    order = {node: place for place, node in enumerate(graph.nodes)}
    starts = [
        (min((order[user] for user in layer.entry_users), default=order[layer.output]), layer.index)
        for layer in layers
    ]
    found: dict[int, BatchNormalization] = {}
    for node, place in order.items():
        if operations.name_of(node) not in _BATCH_NORMS:
            continue
        begun = [(start, index) for start, index in starts if start <= place]
        if not begun:
            continue
        source = node.args[0]
        shape: tuple[int, ...] = source.meta.get("shape", ()) if isinstance(source, fx.Node) else ()
        if len(shape) > 1 and not (shape[0] == 1 and _batch(graph) != 1):
            values = shape[0] * math.prod(shape[2:])
            own = bool(node.args[_TRAINING])
            found.setdefault(max(begun)[1], BatchNormalization(values, own_statistics=own))
    return found


def _batch(graph: fx.Graph) -> int | None:
    shapes = [node.meta["shape"] for node in graph.nodes if node.op == "placeholder"]
    return next((shape[0] for shape in shapes if shape), None)
