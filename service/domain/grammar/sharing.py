"""Another use of an earlier layer: `shares`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from service.domain.architecture import LayerNode
from service.domain.grammar.faults import below
from service.domain.grammar.fitting import Use, fitted
from service.domain.grammar.names import Scope
from service.domain.grammar.network import Network, Place
from service.domain.layers import LAYER_TYPES
from service.domain.layers.signature import quoted

FIELDS = ("name", "shares", "inputs")


def read_sharing(network: Network, entry: dict[str, Any], place: Place, scope: Scope) -> None:
    """Add the use to the network. At fault it leaves no node."""
    pointer = place.pointer
    network.faults.check_fields(pointer, entry, FIELDS, "a layer that shares another's")
    sources = network.inputs(entry, pointer, scope, scope.above)
    network.stop_if_over(network.budget.connect(len(sources)), place)
    owner = _owner(network, entry["shares"], below(pointer, "shares"), scope)
    inputs = network.tensors_of(sources)
    if owner is None or inputs is None:
        return
    layer_type = LAYER_TYPES[owner.type]
    use = Use(layer_type, owner.args, dict(owner.forward), inputs, sources, place, given={})
    applied = fitted(network, use)
    if applied is None:
        return
    network.stop_if_over(network.budget.spend(replace(applied, parameters={})), place)
    network.add(
        replace(
            owner,
            name=place.path,
            inputs=sources,
            init={},
            output_shape=applied.output.shape,
            output_dtype=applied.output.dtype,
            parameters={},
            parametrizations={},
            pointer=pointer,
            shares=owner.name,
        )
    )


def _owner(network: Network, name: Any, pointer: str, scope: Scope) -> LayerNode | None:
    """The layer that a name in `shares` stands for, which has parameters to share."""
    faults = network.faults
    source = network.source(name, pointer, scope)
    node = network.nodes.get(source or "")
    if node is None:
        if source is not None and network.tensors[source] is not None:
            faults.add(pointer, f"{quoted(name)} is what comes in, not a layer")
        return None
    if node.name.rpartition(".")[2] != name.rpartition(".")[2]:
        faults.add(pointer, f"{quoted(name)} is a group: share its layers one by one")
        return None
    owner = network.nodes[node.shares or node.name]
    if not owner.parameters:
        faults.add(pointer, f"layer {quoted(name)} ({owner.type}) has no parameters")
        return None
    return owner
