"""The recorded graph cut into layers.

A layer is a parameter-owning operation plus what follows it up to the next one (its normalization,
its activation), named by its module path; its output is what leaves its last operation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import fx

from service.probing import operations
from service.probing.chains import BRANCHING, Chain, chain_of

OUTSIDE = -1
"""Region of what comes before the first layer."""

_RECURRENT = {1: "rnn", 3: "gru", 4: "lstm"}
_MATRIX_NDIM = 2


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a recorded graph."""

    index: int
    """Position in execution order."""
    name: str
    """Module path; "#2" is appended to the second use of a shared module."""
    op: str
    """linear, conv2d, lstm … (see LayerMeasurements.op)."""
    entry: fx.Node | None
    """The data input; None when the layer has none that a gradient can reach."""
    entry_users: tuple[fx.Node, ...]
    """The layer's own operations that read `entry`."""
    output: fx.Node
    """The layer's output."""
    parameters: tuple[str, ...]
    """Names of the parameters it owns, its normalization's included."""
    nonlinearity: str | None
    activation: fx.Node | None
    """Where the nonlinearity's output is, when it has a flat region."""
    flat_region: tuple[float | None, float | None] | None
    normalization: str | None
    residual: bool
    depth: int
    unit_dim: int
    """Dimension of `output` that counts units: 1 for convolutions, -1 otherwise."""
    arguments: dict[str, float] = field(default_factory=dict)
    """Of the nonlinearity, where it has any."""
    nodes: tuple[fx.Node, ...] = ()
    """Everything the layer computes, in order; the operation that reads its weights is `head`."""
    head: fx.Node | None = None
    """The (last) operation that reads the layer's weights."""
    chain: Chain | None = None
    """Its own path from `entry` to `output`, where that is a chain of parts."""


@dataclass(slots=True)
class _Region:
    owner: str
    op: str
    nodes: list[fx.Node] = field(default_factory=list)
    heads: list[fx.Node] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    depth: int = 0


@dataclass(frozen=True, slots=True)
class _Shown:
    """What follows (or leads in to) a layer's weights."""

    normalization: str | None
    name: str | None = None
    """The nonlinearity's."""
    arguments: dict[str, float] = field(default_factory=dict)
    output: fx.Node | None = None
    flat_region: tuple[float | None, float | None] | None = None


def layers_of(graph: fx.Graph, parameters: Mapping[str, torch.Tensor]) -> tuple[Layer, ...]:
    """Cut a recorded graph into layers, in execution order."""
    cut = _Cut(graph, parameters)
    return cut.layers()


class _Cut:
    def __init__(self, graph: fx.Graph, parameters: Mapping[str, torch.Tensor]) -> None:
        self.graph = graph
        self.parameters = parameters
        self.weights = _parameter_sources(graph, parameters)
        self.data = _data_nodes(graph)
        self.regions: list[_Region] = []
        self.region_of: dict[fx.Node, int] = {}
        self.batch = _batch_size(graph)
        self.depth_of: dict[fx.Node, int] = {}
        # A model that only scales its input has no matrix to begin a layer with.
        self.anything_begins = not any(
            node in self.data and operations.name_of(node) in operations.WEIGHTED
            for node in graph.nodes
            if self._weights_used(node)
        )
        for node in graph.nodes:
            if node in self.data:
                self._place(node)

    def layers(self) -> tuple[Layer, ...]:
        """With their paths."""
        nodes = list(self.graph.nodes)
        place = {node: index for index, node in enumerate(nodes)}
        return tuple(
            replace(layer, chain=self._chain(layer, nodes, place)) for layer in self._named()
        )

    def _chain(self, layer: Layer, nodes: list[fx.Node], place: dict[fx.Node, int]) -> Chain | None:
        if layer.entry is None or not layer.entry_users or layer.op in BRANCHING:
            return None
        first = min(place[user] for user in layer.entry_users)
        return chain_of(
            layer.entry,
            layer.entry_users,
            layer.output,
            nodes=nodes[first : place[layer.output] + 1],
            data=self.data,
            residual=layer.residual,
        )

    def _named(self) -> Iterable[Layer]:
        names: dict[str, int] = {}
        outputs = [self._output(index) for index in range(len(self.regions))]
        for index, region in enumerate(self.regions):
            count = names[region.owner] = names.get(region.owner, 0) + 1
            name = region.owner or "model"
            output = outputs[index]
            entry, users, leading = self._entry(index, outputs)
            shown = self._shown(region, leading, output)
            yield Layer(
                index=index,
                name=name if count == 1 else f"{name}#{count}",
                op=region.op,
                entry=entry,
                entry_users=users,
                output=output,
                parameters=tuple(dict.fromkeys(region.parameters)),
                nonlinearity=shown.name,
                activation=shown.output,
                flat_region=shown.flat_region,
                normalization=shown.normalization,
                residual=self._residual(index),
                depth=region.depth,
                unit_dim=1 if region.op.startswith("conv") else -1,
                arguments=shown.arguments,
                nodes=tuple(region.nodes),
                head=region.heads[-1] if region.heads else None,
            )

    def _weights_used(self, node: fx.Node) -> list[str]:
        used: dict[str, None] = {}
        for source in node.all_input_nodes:
            if source not in self.data:
                used.update(dict.fromkeys(self.weights.get(source, ())))
        return list(used)

    def _place(self, node: fx.Node) -> None:
        sources = [source for source in node.all_input_nodes if source in self.data]
        depth = max((self.depth_of[source] for source in sources), default=0)
        region = max((self.region_of[source] for source in sources), default=OUTSIDE)
        weights = self._weights_used(node)
        if weights and (self._begins(node) or region == OUTSIDE):
            region = self._begin(node, weights, depth)
            depth = self.regions[region].depth
        elif region != OUTSIDE:
            self.regions[region].parameters += weights
        self.region_of[node] = region
        self.depth_of[node] = depth
        if region != OUTSIDE:
            self.regions[region].nodes.append(node)

    def _begins(self, node: fx.Node) -> bool:
        return self.anything_begins or operations.name_of(node) in operations.WEIGHTED

    def _begin(self, node: fx.Node, weights: list[str], depth: int) -> int:
        owner = _owner(weights)
        last = len(self.regions) - 1
        if last >= 0 and self.regions[last].owner == owner and not self.anything_begins:
            self.regions[last].heads.append(node)
            self.regions[last].parameters += weights
            return last
        op = self._op(node, weights)
        self.regions.append(_Region(owner, op, [], [node], list(weights), depth + 1))
        return last + 1

    def _op(self, node: fx.Node, weights: list[str]) -> str:
        name = operations.name_of(node)
        if name in operations.NORMALIZATIONS:
            return "norm"
        leaves = {weight.rpartition(".")[2]: weight for weight in weights}
        for leaf, weight in leaves.items():
            if leaf.startswith(("weight_ih", "weight_hh")):
                return _recurrent_op(self.parameters, weight)
            if leaf.startswith("in_proj"):
                return "attention"
        if "convolution" in name:
            ndim = max(self.parameters[weight].ndim for weight in weights) - 2
            transposed = bool(node.args[6]) if len(node.args) > 6 else False
            return f"conv_transpose{ndim}d" if transposed else f"conv{ndim}d"
        if "embedding" in name:
            return "embedding"
        if name in {"addmm", "mm", "linear", "mkldnn_linear", "mv", "addmv"}:
            return "linear"
        return "matmul" if name in operations.WEIGHTED else "scale"

    def _exits(self, index: int) -> list[fx.Node]:
        return [
            node
            for node in self.regions[index].nodes
            if "shape" in node.meta
            and any(
                self.region_of.get(user, OUTSIDE) != index or user.op == "output"
                for user in node.users
            )
        ]

    def _output(self, index: int) -> fx.Node:
        """The last node that everything leaving the layer comes from or is."""
        nodes = self.regions[index].nodes
        tensors = {node: None for node in nodes if operations.is_result(node)}
        exits = self._exits(index)
        if len(exits) <= 1:
            return self._batch_first(exits[0] if exits else next(reversed(tensors)), index)
        candidates = [node for node in nodes[: nodes.index(exits[0]) + 1] if node in tensors]
        for candidate in reversed(candidates):
            below = self._descendants(candidate, index)
            if all(node in below for node in exits):
                return self._batch_first(candidate, index)
        return self._batch_first(exits[-1], index)

    def _batch_first(self, node: fx.Node, index: int) -> fx.Node:
        """The same elements before they were reshaped so that samples no longer come first."""
        seen = node
        while not self._samples_first(seen) and operations.only_moves(seen):
            source = seen.all_input_nodes[0]
            if self.region_of.get(source) != index:
                break
            seen = source
        return seen if self._samples_first(seen) else node

    def _samples_first(self, node: fx.Node) -> bool:
        shape: tuple[int, ...] = node.meta.get("shape", ())
        return bool(shape) and shape[0] == self.batch

    def _descendants(self, node: fx.Node, index: int) -> set[fx.Node]:
        found = {node}
        for other in self.regions[index].nodes:
            if any(source in found for source in other.all_input_nodes):
                found.add(other)
        return found

    def _entry(
        self, index: int, outputs: list[fx.Node]
    ) -> tuple[fx.Node | None, tuple[fx.Node, ...], list[fx.Node]]:
        """The data input, who reads it, and the normalization or activation that leads in."""
        head = self.regions[index].heads[0]
        entry = next((node for node in head.all_input_nodes if self._enters(node, index)), None)
        if entry is None:
            return None, (), []
        region = self.region_of[entry]
        stop = outputs[region] if region != OUTSIDE else None
        path: list[fx.Node] = []
        node = entry
        # What stands between a residual stream and the branch that begins here (pre-norm,
        # pre-activation) belongs to the branch, when nobody else reads it.
        while node is not stop and self._only_leads_to(node, index, path):
            sources = [source for source in node.all_input_nodes if source in self.data]
            if len(sources) != 1 or self.region_of[sources[0]] != region:
                break
            path.append(node)
            node = sources[0]
        if node is not stop:
            while path and not operations.only_moves(path[-1]):
                node = path.pop()
        if path:
            return node, (path[-1],), path
        return entry, tuple(u for u in entry.users if self.region_of.get(u) == index), []

    def _enters(self, node: fx.Node, index: int) -> bool:
        if node not in self.data or self.region_of[node] == index:
            return False
        dtype = node.meta.get("dtype")
        return dtype is not None and (dtype.is_floating_point or dtype.is_complex)

    def _only_leads_to(self, node: fx.Node, index: int, leading: list[fx.Node]) -> bool:
        return all(
            user in leading or self.region_of.get(user) == index or not user.users
            for user in node.users
        )

    def _residual(self, index: int) -> bool:
        for node in self.regions[index].nodes:
            if operations.name_of(node) == "add":
                others = {
                    self.region_of[source] for source in node.all_input_nodes if source in self.data
                }
                if len(others) > 1:
                    return True
        return False

    def _shown(self, region: _Region, leading: list[fx.Node], output: fx.Node) -> _Shown:
        normalization = next(
            (
                kind
                for node in [*leading, *_until(region.nodes, output)]
                if (kind := operations.NORMALIZATIONS.get(operations.name_of(node)))
            ),
            None,
        )
        if region.op in {"lstm", "gru"}:
            return _Shown(normalization)
        for node in _until(region.nodes, output):
            nonlinearity = operations.nonlinearity_of(node)
            if nonlinearity is not None:
                flat = operations.flat_region(node, nonlinearity)
                where = output if region.op == "rnn" else operations.first_tensor(node)
                return _Shown(
                    normalization,
                    nonlinearity,
                    operations.arguments_of(node, nonlinearity),
                    where if flat else None,
                    flat,
                )
        return _Shown(normalization)


def _batch_size(graph: fx.Graph) -> int | None:
    shapes = [node.meta["shape"] for node in graph.nodes if node.op == "placeholder"]
    return next((shape[0] for shape in shapes if shape), None)


def _until(nodes: Iterable[fx.Node], last: fx.Node) -> Iterable[fx.Node]:
    for node in nodes:
        yield node
        if node is last:
            return


def _owner(weights: list[str]) -> str:
    """The module path that owns the first (largest) weight."""
    return weights[0].rpartition(".")[0]


def _recurrent_op(parameters: Mapping[str, torch.Tensor], weight: str) -> str:
    owner, _, leaf = weight.rpartition(".")
    suffix = leaf.removeprefix("weight_ih").removeprefix("weight_hh")
    hidden = parameters.get(f"{owner}.weight_hh{suffix}" if owner else f"weight_hh{suffix}")
    if hidden is None or hidden.ndim != _MATRIX_NDIM:
        return "rnn"
    return _RECURRENT.get(hidden.shape[0] // max(hidden.shape[1], 1), "rnn")


def _parameter_sources(
    graph: fx.Graph, parameters: Mapping[str, torch.Tensor]
) -> dict[fx.Node, tuple[str, ...]]:
    """Which parameters each input-independent node is computed from, weights before biases."""
    placeholders = _data_nodes(graph)
    sources: dict[fx.Node, tuple[str, ...]] = {}
    for node in graph.nodes:
        if node in placeholders:
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
