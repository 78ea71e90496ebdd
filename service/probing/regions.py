"""The recorded graph cut into regions: an operation that reads a layer's weights, and what follows
it up to the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import fx

from service.probing import operations

OUTSIDE = -1
"""Region of what comes before the first layer."""

_RECURRENT = {1: "rnn", 3: "gru", 4: "lstm"}
_OF_SEVERAL_OPERATIONS = frozenset({*_RECURRENT.values(), "attention"})
_MATRIX_NDIM = 2


@dataclass(slots=True)
class Region:
    """What becomes one layer."""

    owner: str
    """Module path that owns its weights."""
    op: str
    """See LayerMeasurements.op."""
    nodes: list[fx.Node] = field(default_factory=list)
    """In execution order."""
    heads: list[fx.Node] = field(default_factory=list)
    """Operations that read its weights."""
    parameters: list[str] = field(default_factory=list)
    """Names, one as often as it is read."""
    depth: int = 0
    """See LayerMeasurements.depth."""


class Cut:
    """A graph and its regions, in execution order."""

    def __init__(self, graph: fx.Graph, parameters: Mapping[str, torch.Tensor]) -> None:
        """`parameters`: by the names that the graph's get_attr nodes carry."""
        self.data = _data_nodes(graph)
        """Nodes that depend on an input."""
        self.regions: list[Region] = []
        self.region_of: dict[fx.Node, int] = {}
        """Of every data node; OUTSIDE before the first layer."""
        self.batch = _batch_size(graph)
        """Samples; None for an input without dimensions."""
        self._outside: list[fx.Node] = []
        self._parameters = parameters
        self._weights = _parameter_sources(graph, parameters, self.data)
        self._depth_of: dict[fx.Node, int] = {}
        # A model that only scales its input has no matrix to begin a layer with.
        self._anything_begins = not any(
            node in self.data and operations.name_of(node) in operations.WEIGHTED
            for node in graph.nodes
            if self._weights_used(node)
        )
        for node in graph.nodes:
            if node in self.data:
                self._place(node)

    def nodes_of(self, region: int) -> list[fx.Node]:
        """In execution order."""
        return self._outside if region == OUTSIDE else self.regions[region].nodes

    def _weights_used(self, node: fx.Node) -> list[str]:
        used: dict[str, None] = {}
        for source in node.all_input_nodes:
            if source not in self.data:
                used.update(dict.fromkeys(self._weights.get(source, ())))
        return list(used)

    def _place(self, node: fx.Node) -> None:
        sources = [source for source in node.all_input_nodes if source in self.data]
        depth = max((self._depth_of[source] for source in sources), default=0)
        region = max((self.region_of[source] for source in sources), default=OUTSIDE)
        weights = self._weights_used(node)
        if weights and (self._begins(node) or region == OUTSIDE):
            region = self._begin(node, weights, depth)
            depth = self.regions[region].depth
        elif region != OUTSIDE:
            self.regions[region].parameters += weights
        self.region_of[node] = region
        self._depth_of[node] = depth
        self.nodes_of(region).append(node)

    def _begins(self, node: fx.Node) -> bool:
        return self._anything_begins or operations.name_of(node) in operations.WEIGHTED

    def _begin(self, node: fx.Node, weights: list[str], depth: int) -> int:
        owner = _owner(weights)
        last = len(self.regions) - 1
        if last >= 0 and self.regions[last].owner == owner and not self._anything_begins:
            region = self.regions[last]
            # A layer that is used again is another layer; a recurrent one is used at every step.
            again = region.parameters[: len(weights)] == weights and not _prepares(region.heads[-1])
            if region.op in _OF_SEVERAL_OPERATIONS or not again:
                region.heads.append(node)
                region.parameters += weights
                return last
        op = self._op(node, weights)
        self.regions.append(Region(owner, op, [], [node], list(weights), depth + 1))
        return last + 1

    def _op(self, node: fx.Node, weights: list[str]) -> str:
        name = operations.name_of(node)
        if name in operations.NORMALIZATIONS:
            return "norm"
        leaves = {weight.rpartition(".")[2]: weight for weight in weights}
        for leaf, weight in leaves.items():
            if leaf.startswith(("weight_ih", "weight_hh")):
                return _recurrent_op(self._parameters, weight)
            if leaf.startswith("in_proj"):
                return "attention"
        if "convolution" in name:
            ndim = max(self._parameters[weight].ndim for weight in weights) - 2
            transposed = bool(node.args[6]) if len(node.args) > 6 else False
            return f"conv_transpose{ndim}d" if transposed else f"conv{ndim}d"
        if "embedding" in name:
            return "embedding"
        if name in {"addmm", "mm", "linear", "mkldnn_linear", "mv", "addmv"}:
            return "linear"
        return "matmul" if name in operations.WEIGHTED else "scale"


def _prepares(node: fx.Node) -> bool:
    """Changes a weight in place before it is used: an embedding's max_norm."""
    return operations.name_of(node) == "embedding_renorm"


def _owner(weights: list[str]) -> str:
    """The module path that owns the first (largest) weight; that of a weight computed by
    torch.nn.utils.parametrize is the path of the layer it belongs to."""
    owner, parametrized, _ = weights[0].partition(".parametrizations.")
    return owner if parametrized else owner.rpartition(".")[0]


def _recurrent_op(parameters: Mapping[str, torch.Tensor], weight: str) -> str:
    owner, _, leaf = weight.rpartition(".")
    suffix = leaf.removeprefix("weight_ih").removeprefix("weight_hh")
    hidden = parameters.get(f"{owner}.weight_hh{suffix}" if owner else f"weight_hh{suffix}")
    if hidden is None or hidden.ndim != _MATRIX_NDIM:
        return "rnn"
    return _RECURRENT.get(hidden.shape[0] // max(hidden.shape[1], 1), "rnn")


def _parameter_sources(
    graph: fx.Graph, parameters: Mapping[str, torch.Tensor], data: set[fx.Node]
) -> dict[fx.Node, tuple[str, ...]]:
    """Which parameters each input-independent node is computed from, weights before biases."""
    sources: dict[fx.Node, tuple[str, ...]] = {}
    for node in graph.nodes:
        if node in data:
            continue
        if node.op == "get_attr" and node.meta["name"] in parameters:
            sources[node] = (node.meta["name"],)
            continue
        joined: dict[str, None] = {}
        for source in node.all_input_nodes:
            joined.update(dict.fromkeys(sources.get(source, ())))
        if joined:
            sources[node] = tuple(joined)
    return sources


def _data_nodes(graph: fx.Graph) -> set[fx.Node]:
    """Nodes that depend on an input."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(source in found for source in node.all_input_nodes):
            found.add(node)
    return found


def _batch_size(graph: fx.Graph) -> int | None:
    shapes = [node.meta["shape"] for node in graph.nodes if node.op == "placeholder"]
    return next((shape[0] for shape in shapes if shape), None)
