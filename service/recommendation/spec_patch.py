"""RFC 6902 operations on the submitted spec; None where the change is not simply said there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jsonpatch

from service.domain.architecture import Architecture, LayerNode, resolve
from service.recommendation.initialization import Draw

Patch = tuple[dict[str, Any], ...]


def applied(spec: Mapping[str, Any], operations: Iterable[Mapping[str, Any]]) -> Architecture:
    """The submitted spec after the operations, resolved. Raises InvalidRequest, and jsonpatch's
    own errors where an operation does not fit the spec."""
    return resolve(jsonpatch.apply_patch(dict(spec), [dict(one) for one in operations]))


def initialize(architecture: Architecture, draws: Iterable[Draw]) -> Patch | None:
    """Set the `init` of every layer that a draw concerns, what else it says kept.

    Layers of a `repeat` group are submitted once: None unless all repetitions get the same.
    """
    wanted: dict[str, dict[str, Any]] = {}
    for draw in draws:
        node = _owner(architecture, draw.parameter)
        if node is None:
            return None
        key = draw.parameter.removeprefix(f"{node.name}.")
        wanted.setdefault(node.name, {})[key] = {"name": draw.function, "args": draw.args}
    by_pointer: dict[str, dict[str, Any]] = {}
    for node in architecture.layers:
        init = wanted.get(node.name, {})
        if by_pointer.setdefault(node.pointer, init) != init:
            return None
    return tuple(
        {
            "op": "add",
            "path": f"{pointer}/init",
            "value": {**_at(architecture, pointer).get("init", {}), **init},
        }
        for pointer, init in by_pointer.items()
        if init
    )


def retype(architecture: Architecture, nodes: Iterable[LayerNode], new: str) -> Patch:
    """Give layers another type, without arguments; names and inputs stay."""
    operations: list[dict[str, Any]] = []
    for pointer in dict.fromkeys(node.pointer for node in nodes):
        operations.append({"op": "replace", "path": f"{pointer}/type", "value": new})
        if "args" in _at(architecture, pointer):
            operations.append({"op": "remove", "path": f"{pointer}/args"})
    return tuple(operations)


def insert_after(
    architecture: Architecture, layers: Mapping[str, Mapping[str, Any]]
) -> Patch | None:
    """Put a new layer behind each named one, from the last to the first so that indices hold.

    None when somebody reads a named layer by name, when only some repetitions of a group are
    named, or when a default name ("layer4") would change its meaning.
    """
    nodes = {node.name: node for node in architecture.layers}
    if not all(name in nodes for name in layers):
        return None
    pointers = {nodes[name].pointer: dict(new) for name, new in layers.items()}
    complete = all(
        (node.name in layers) == (node.pointer in pointers) for node in architecture.layers
    )
    if not complete or _names_read(architecture.submitted) & _short_names(pointers, architecture):
        return None
    return tuple(
        {"op": "add", "path": _next(pointer), "value": pointers[pointer]}
        for pointer in sorted(pointers, key=_position, reverse=True)
    )


def _owner(architecture: Architecture, parameter: str) -> LayerNode | None:
    owners = [node for node in architecture.layers if parameter.startswith(f"{node.name}.")]
    return max(owners, key=lambda node: len(node.name), default=None)


def _at(architecture: Architecture, pointer: str) -> Any:
    found: Any = architecture.submitted
    for part in pointer.split("/")[1:]:
        found = found[int(part)] if isinstance(found, list) else found[part]
    return found


def _position(pointer: str) -> list[int]:
    return [int(part) for part in pointer.split("/") if part.isdigit()]


def _next(pointer: str) -> str:
    before, _, index = pointer.rpartition("/")
    return f"{before}/{int(index) + 1}"


def _short_names(pointers: Iterable[str], architecture: Architecture) -> set[str]:
    named = {str(_at(architecture, pointer).get("name", "")) for pointer in pointers}
    return named | {name for name in _names_read(architecture.submitted) if _is_default(name)}


def _is_default(name: str) -> bool:
    return re.fullmatch(r"layer\d+", name) is not None


def _names_read(spec: Mapping[str, Any]) -> set[str]:
    """Every name that an `inputs` of the spec mentions, at any depth."""
    layers: Sequence[Mapping[str, Any]] = spec.get("layers", ())
    names = {str(name) for layer in layers for name in layer.get("inputs", ())}
    return names.union(*(_names_read(layer) for layer in layers))
