"""The recorded graph cut into layers.

A layer is a parameter-owning operation plus what follows it up to the next one (its normalization,
its activation), named by its module path; its output is what leaves its last operation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import fx

from service.probing import operations
from service.probing.boundaries import entry_of, output_of
from service.probing.chains import BRANCHING, Chain, chain_of
from service.probing.regions import Cut, Region


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
    cut = Cut(graph, parameters)
    nodes = list(graph.nodes)
    place = {node: index for index, node in enumerate(nodes)}
    return tuple(replace(layer, chain=_chain(cut, layer, nodes, place)) for layer in _named(cut))


def _chain(
    cut: Cut, layer: Layer, nodes: list[fx.Node], place: Mapping[fx.Node, int]
) -> Chain | None:
    if layer.entry is None or not layer.entry_users or layer.op in BRANCHING:
        return None
    first = min(place[user] for user in layer.entry_users)
    return chain_of(
        layer.entry,
        layer.entry_users,
        layer.output,
        nodes=nodes[first : place[layer.output] + 1],
        data=cut.data,
        residual=layer.residual,
    )


def _named(cut: Cut) -> Iterable[Layer]:
    names: dict[str, int] = {}
    outputs = [output_of(cut, index) for index in range(len(cut.regions))]
    for index, region in enumerate(cut.regions):
        count = names[region.owner] = names.get(region.owner, 0) + 1
        name = region.owner or "model"
        output = outputs[index]
        entry = entry_of(cut, index, outputs)
        shown = _shown(region, entry.leading, output)
        yield Layer(
            index=index,
            name=name if count == 1 else f"{name}#{count}",
            op=region.op,
            entry=entry.node,
            entry_users=entry.users,
            output=output,
            parameters=tuple(dict.fromkeys(region.parameters)),
            nonlinearity=shown.name,
            activation=shown.output,
            flat_region=shown.flat_region,
            normalization=shown.normalization,
            residual=_residual(cut, region),
            depth=region.depth,
            unit_dim=1 if region.op.startswith("conv") else -1,
            arguments=shown.arguments,
            nodes=tuple(region.nodes),
            head=region.heads[-1] if region.heads else None,
        )


def _residual(cut: Cut, region: Region) -> bool:
    for node in region.nodes:
        if operations.name_of(node) == "add":
            others = {
                cut.region_of[source] for source in node.all_input_nodes if source in cut.data
            }
            if len(others) > 1:
                return True
    return False


def _shown(region: Region, leading: Sequence[fx.Node], output: fx.Node) -> _Shown:
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


def _until(nodes: Iterable[fx.Node], last: fx.Node) -> Iterable[fx.Node]:
    for node in nodes:
        yield node
        if node is last:
            return
