"""One layer of a spec: its type, arguments, inputs, initialization and computed weights."""

from __future__ import annotations

from typing import Any

from service.domain.architecture import LayerNode
from service.domain.errors import UnknownLayerType
from service.domain.grammar.faults import Faults, below
from service.domain.grammar.fitting import Use, bad_argument, fitted
from service.domain.grammar.initialization import read_init
from service.domain.grammar.names import Scope
from service.domain.grammar.network import Network, Place
from service.domain.grammar.parametrizations import read_parametrizations
from service.domain.layers import LAYER_TYPES
from service.domain.layers.kinds import shown
from service.domain.layers.layer_type import Applied, LayerType
from service.domain.layers.signature import hint

OBJECTS = ("args", "init", "forward", "parametrizations")
FIELDS = ("name", "type", "inputs", *OBJECTS)


def read_layer(network: Network, entry: dict[str, Any], place: Place, scope: Scope) -> None:
    """Add the layer to the network. At fault it leaves no node."""
    faults, pointer = network.faults, place.pointer
    before = len(faults)
    faults.check_fields(pointer, entry, FIELDS, "a layer")
    layer_type = _type(entry, pointer, faults)
    by_itself = layer_type is not None and layer_type.reads_input
    sources = network.inputs(entry, pointer, scope, scope.incoming if by_itself else scope.above)
    network.stop_if_over(network.budget.connect(len(sources)), place)
    objects = [faults.object_at(entry, field, pointer) for field in OBJECTS]
    said = [one for one in objects if one is not None]
    if layer_type is None or len(said) < len(OBJECTS):
        return
    args, init, forward, computed = said
    _check_arguments(network, layer_type, args, forward, place)
    inputs = network.tensors_of(sources)
    if len(faults) > before or inputs is None:
        return
    use = Use(layer_type, args, forward, inputs, sources, place, given=args)
    applied = fitted(network, use)
    if applied is not None:
        network.stop_if_over(network.budget.spend(applied), place)
        network.add(_node(network, use, applied, init, computed))


def _check_arguments(
    network: Network,
    layer_type: LayerType,
    args: dict[str, Any],
    forward: dict[str, Any],
    place: Place,
) -> None:
    for fault in layer_type.signature.faults(args):
        bad_argument(network, fault, place)
    for fault in layer_type.call.faults(forward):
        bad_argument(network, fault, place, "forward")


def _node(
    network: Network, use: Use, applied: Applied, init: dict[str, Any], computed: dict[str, Any]
) -> LayerNode:
    faults, pointer, path = network.faults, use.place.pointer, use.place.path
    before = len(faults)
    name, shapes = use.type.name, applied.parameters
    calls = read_init(init, name, shapes, below(pointer, "init"), faults)
    for parameter in use.type.must_init:
        if parameter not in calls and len(faults) == before:
            detail = f"torch has no default initialization for a {name}: give `init`"
            faults.add(below(pointer, "init"), f"layer `{path}`: {detail}")
    there = below(pointer, "parametrizations")
    return LayerNode(
        name=path,
        type=name,
        args=applied.args,
        inputs=use.sources,
        init=calls,
        output_shape=applied.output.shape,
        output_dtype=applied.output.dtype,
        parameters=shapes,
        pointer=pointer,
        forward={switch: is_on for switch, is_on in use.forward.items() if is_on},
        parametrizations=read_parametrizations(
            computed, use.type, applied.args, shapes, there, faults
        ),
    )


def _type(entry: dict[str, Any], pointer: str, faults: Faults) -> LayerType | None:
    if "type" not in entry:
        faults.add(below(pointer, "type"), "`type` is missing")
        return None
    name = entry["type"]
    if isinstance(name, str) and name in LAYER_TYPES:
        return LAYER_TYPES[name]
    guess = hint(name, LAYER_TYPES) if isinstance(name, str) else ""
    detail = f"there is no layer type {shown(name)}{guess}"
    faults.add(below(pointer, "type"), detail, UnknownLayerType)
    return None
