"""Skips, other recurrent cells and a normalized input, said on a submitted spec."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from service.domain.architecture import LayerNode
from service.domain.grammar.names import INPUT
from service.domain.layers import LAYER_TYPES
from service.recommendation.spec_editing import CannotSay, Editing
from service.recommendation.spec_names import local_name

BEGINS_A_LAYER = frozenset({"linear", "convolution", "recurrent", "attention", "embedding"})
"""Categories whose weights begin a layer of the recorded graph; what follows belongs to it."""
SKIP = "skip"
"""Ending of the name of a sum of a layer's output and its input."""
PROJECTION = "projection"
"""Ending of the name of a linear map that such a sum reads."""
INPUT_NORM = "input_norm"
"""Name of the layer that normalizes the input."""
RNN_ONLY = frozenset({"nonlinearity"})
"""Arguments of an RNN that other cells do not have."""


def add_skips(
    editing: Editing,
    names: Iterable[str],
    begins: Mapping[str, str],
    projections: Mapping[str, Mapping[str, Any]],
) -> dict[str, str]:
    """Add to the output of each named layer, what follows its weights included, what it reads, or
    what the layer does that `begins` names for it; through a layer of its own where `projections`
    has one for it. Returns these by the layers that they belong to.

    A sum that reads a layer which gets one too reads that sum. Raises CannotSay."""
    layers = editing.architecture.layers
    nodes, readers = {node.name: node for node in layers}, readers_of(layers)
    sums: dict[str, dict[str, Any]] = {}
    ends: dict[str, str] = {}
    for name in names:
        if name not in nodes or "." in name:  # inside a group, `inputs` means something else
            raise CannotSay(f"no layer {name} of its own")
        last = path_of(readers, nodes[name])[-1]
        first = begins.get(name, name)
        if first not in nodes or "." in first:
            raise CannotSay(f"no layer {first} of its own")
        source = nodes[first].inputs[0]
        if "." in last or "." in source:
            raise CannotSay(f"{name} reads or ends in a group")
        if last in sums:
            raise CannotSay(f"{name} ends where another layer does")
        sums[last] = {"type": "Add", "inputs": [last, source]}
        ends[name] = last
    added = editing.insert_after(sums, SKIP)
    return {
        name: editing.insert_between(
            added[ends[name]], 1, {"type": one["type"], "args": dict(one["args"])}, PROJECTION
        )
        for name, one in projections.items()
    }


def exchange_cells(editing: Editing, names: Iterable[str], new: str) -> None:
    """Give recurrent layers another cell; what else they are told stays. Raises CannotSay."""
    nodes = {node.name: node for node in editing.architecture.layers}
    if missing := set(names) - nodes.keys():
        raise CannotSay(f"no layer {min(missing)}")
    editing.retype({
        name: (new, {k: v for k, v in _given(editing, nodes[name]).items() if k not in RNN_ONLY})
        for name in names
    })  # fmt: skip


def normalize_input(editing: Editing, entry: Mapping[str, Any], number: int = 0) -> str:
    """Put a normalization in front of everything that reads an input; returns its name."""
    inputs = [sample.name for sample in editing.architecture.inputs]
    source, layers = inputs[number], editing.at("/layers")
    name = INPUT_NORM
    while any(local_name(layer, index) == name for index, layer in enumerate(layers)):
        name += "_"
    for index, layer in enumerate(layers):
        if "name" not in layer:  # its default name would count the new layer
            editing.do("add", f"/layers/{index}/name", local_name(layer, index))
    if number and "inputs" not in layers[0]:  # what stands above it is the first input no more
        editing.do("add", "/layers/0/inputs", [inputs[0]])
    meant = {source} | ({INPUT} if number == 0 else set())
    for pointer in _readings(layers, "/layers", meant, source):
        editing.do("replace", pointer, name)
    new = {"name": name, "type": entry["type"], "args": dict(entry.get("args", {}))}
    editing.do("add", "/layers/0", {**new, "inputs": [source]} if len(inputs) > 1 else new)
    return name


def _readings(
    layers: Iterable[Mapping[str, Any]], pointer: str, meant: Container[str], source: str
) -> list[str]:
    """Pointers of the `inputs` that mean what comes in; inside a group, "input" does not."""
    found: list[str] = []
    for index, layer in enumerate(layers):
        here = f"{pointer}/{index}"
        read = enumerate(layer.get("inputs", ()))
        found += [f"{here}/inputs/{place}" for place, name in read if name in meant]
        inside = (source,) if source != INPUT else ()
        found += _readings(layer.get("layers", ()), f"{here}/layers", inside, source)
    return found


def _given(editing: Editing, node: LayerNode) -> dict[str, Any]:
    """The arguments as submitted."""
    return dict(editing.at(node.pointer).get("args", {}))


def readers_of(layers: Iterable[LayerNode]) -> dict[str, list[LayerNode]]:
    """Who reads each layer, each reader once; those that nobody reads are left out."""
    readers: dict[str, list[LayerNode]] = {}
    for one in layers:
        for source in dict.fromkeys(one.inputs):
            readers.setdefault(source, []).append(one)
    return readers


def path_of(readers: Mapping[str, Sequence[LayerNode]], node: LayerNode) -> tuple[str, ...]:
    """A layer of the spec and those behind it before the next weights, on a path without branches.
    Raises CannotSay where it merges with another one."""
    path = [node.name]
    while True:
        found = readers.get(path[-1], ())
        if len(found) != 1 or LAYER_TYPES[found[0].type].category in BEGINS_A_LAYER:
            return tuple(path)
        if len(found[0].inputs) != 1:
            raise CannotSay(f"{found[0].name} merges what follows {node.name}")
        path.append(found[0].name)
