"""A submitted spec under the pen: every change is an RFC 6902 operation, and is noted.

Layers are named as in the network that the spec means (body.0.conv). What layers of one `repeat`
group need differently makes the group be written out first, as a group of numbered groups in which
every layer keeps its name; names that would shift are written out too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import jsonpatch

from service.domain.architecture import Architecture, LayerNode, resolve
from service.domain.errors import GraddxError
from service.domain.layers import LAYER_TYPES
from service.recommendation.spec_names import local_name, readers

Operation = dict[str, Any]
_Value = TypeVar("_Value")


class CannotSay(Exception):
    """The change cannot be said on the spec as it is written."""


class Editing:
    """One spec and the operations so far."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.spec: dict[str, Any] = _own(dict(spec))
        self.operations: list[Operation] = []
        self._architecture: Architecture | None = None

    @property
    def architecture(self) -> Architecture:
        """What the spec means now. Raises CannotSay when it means nothing any more."""
        if self._architecture is None:
            try:
                self._architecture = resolve(self.spec)
            except GraddxError as error:
                raise CannotSay(error.detail) from error
        return self._architecture

    def at(self, pointer: str) -> Any:
        """What stands at a pointer."""
        found: Any = self.spec
        for part in pointer.split("/")[1:]:
            found = found[int(part)] if isinstance(found, list) else found[part]
        return found

    def do(self, op: str, path: str, *value: Any) -> None:
        """One operation, done and noted."""
        operation: Operation = {"op": op, "path": path}
        if value:
            operation["value"] = value[0]
        self.operations.append(_own(operation))
        jsonpatch.apply_patch(self.spec, [_own(operation)], in_place=True)
        self._architecture = None

    def initialize(self, calls: Mapping[str, Mapping[str, Any]]) -> None:
        """Add to the `init` of layers: by layer, parameter → call. What else it says is kept."""
        for pointer, init in self._by_pointer(calls).items():
            before = self.at(pointer).get("init", {})
            self.do("add", f"{pointer}/init", {**before, **init})

    def retype(self, types: Mapping[str, tuple[str, Mapping[str, Any]]]) -> None:
        """Give layers another type and arguments; names and inputs stay, an `init` goes."""
        for pointer, (new, args) in self._by_pointer(types).items():
            entry = self.at(pointer)
            self.do("replace", f"{pointer}/type", new)
            if args:
                self.do("add", f"{pointer}/args", dict(args))
            elif "args" in entry:
                self.do("remove", f"{pointer}/args")
            if "init" in entry:
                self.do("remove", f"{pointer}/init")

    def argue(self, args: Mapping[str, Mapping[str, Any]]) -> None:
        """Give layers other values of some arguments; the others stay."""
        for pointer, new in self._by_pointer(args).items():
            self.do("add", f"{pointer}/args", {**self.at(pointer).get("args", {}), **new})

    def insert_after(self, layers: Mapping[str, Mapping[str, Any]], ending: str) -> dict[str, str]:
        """Put a new layer behind each named one; whoever read that one now reads the new one, other
        new layers by their `inputs` too.

        A new layer is called as the one before it and `ending`. Returns the new layers' names by
        the names of those before them."""
        new = self._by_pointer(layers)
        behind = {node.name: node.pointer for node in self.architecture.layers}
        names, reading = self._new_names(new, ending), readers(self.spec)
        anew = {one for layer in layers.values() for one in layer.get("inputs", ())}
        self._keep_names(new, {**{behind[one]: [] for one in anew & behind.keys()}, **reading})
        told = {name: _sibling(name, names[behind[name]]) for name in layers}
        for name, layer in layers.items():
            if "inputs" in layer:
                inputs = [one if one == name else told.get(one, one) for one in layer["inputs"]]
                new[behind[name]] = {**layer, "inputs": inputs}
        for pointer, name in names.items():
            for read in reading.get(pointer, ()):
                before, dot, _ = str(self.at(read)).rpartition(".")
                self.do("replace", read, f"{before}{dot}{name}")
        for pointer in sorted(new, key=_position, reverse=True):  # so that indices hold
            before, _, index = pointer.rpartition("/")
            self.do("add", f"{before}/{int(index) + 1}", {"name": names[pointer], **new[pointer]})
        return told

    def insert_between(self, name: str, place: int, layer: Mapping[str, Any], ending: str) -> str:
        """Put a new layer between one that was inserted, of the outermost list, and what that reads
        at a place of its `inputs`. Only then need the spec mean something again.

        It stands in front of that one and is called as it and `ending`; returns its name. What
        moves was named when that one was inserted, where it matters."""
        layers = self.at("/layers")
        index = next(at for at, one in enumerate(layers) if one.get("name") == name)
        pointer = f"/layers/{index}"
        (new,) = self._new_names([pointer], ending).values()
        source = self.at(f"{pointer}/inputs/{place}")
        self.do("replace", f"{pointer}/inputs/{place}", new)
        self.do("add", pointer, {"name": new, **layer, "inputs": [source]})
        return new

    def _by_pointer(self, wanted: Mapping[str, _Value]) -> dict[str, _Value]:
        """By place in the spec what is wanted by name; repetitions that are to differ are written
        out. Raises CannotSay for what is no layer of its own."""
        while True:
            places: dict[str, _Value | None] = {}
            uneven = None
            for node in self.architecture.layers:
                value = wanted.get(node.name)
                if places.setdefault(node.pointer, value) != value:
                    uneven = node.pointer
                    break
            if uneven is None:
                known = {node.name for node in self.architecture.layers}
                if missing := set(wanted) - known:
                    raise CannotSay(f"no layer {min(missing)}")
                return {place: value for place, value in places.items() if value is not None}
            self._write_out(uneven)

    def _write_out(self, pointer: str) -> None:
        """The outermost `repeat` group around a layer, repetition by repetition."""
        parts = pointer.split("/")
        above = ("/".join(parts[:end]) for end in range(3, len(parts), 2))
        group = next(place for place in above if self.at(place).get("repeat", 1) > 1)
        before, meaning = self.at(group), _meaning(self.architecture)
        turns = [
            {"name": str(turn), "layers": before["layers"]} for turn in range(before["repeat"])
        ]
        kept = {name: before[name] for name in ("name", "inputs") if name in before}
        self.do("replace", group, {**kept, "layers": turns})
        if _meaning(self.architecture) != meaning:  # a layer outside may be called 0, too
            raise CannotSay(f"{group} cannot be written out under these names")

    def _new_names(self, pointers: Iterable[str], ending: str) -> dict[str, str]:
        """Names that nothing in the spec has, so that they mean the same everywhere."""
        taken = set(_names(self.spec["layers"]))
        names: dict[str, str] = {}
        siblings: set[tuple[str, str]] = set()
        for pointer in pointers:
            layers, _, index = pointer.rpartition("/")
            name = f"{local_name(self.at(pointer), int(index))[:80]}_{ending}"
            while name in taken or (layers, name) in siblings:
                name += "_"
            names[pointer] = name
            siblings.add((layers, name))
        return names

    def _keep_names(self, pointers: Iterable[str], reading: Mapping[str, list[str]]) -> None:
        """Write out the default names of layers that are about to move, where it matters."""
        owners = {node.pointer for node in self.architecture.layers if has_state(node)}
        first: dict[str, int] = {}
        for pointer in pointers:
            layers, _, place = pointer.rpartition("/")
            first[layers] = min(int(place), first.get(layers, int(place)))
        for layers, begin in first.items():
            entries = list(enumerate(self.at(layers)))
            moving = [(p, entry) for p, entry in entries if p > begin and "name" not in entry]
            given = any(re.fullmatch(r"layer\d+", str(e.get("name", ""))) for _, e in entries)
            if given or any(
                "layers" in entry or f"{layers}/{index}" in owners | reading.keys()
                for index, entry in moving
            ):
                for index, _ in moving:
                    self.do("add", f"{layers}/{index}/name", f"layer{index}")


def has_state(node: LayerNode) -> bool:
    """Whether a state dict may have entries of this layer: parameters, or running statistics."""
    normalizes = LAYER_TYPES[node.type].category == "normalization"
    return bool(node.parameters) or (normalizes and node.shares is None)


def _own(document: Any) -> Any:
    """A copy in which nothing is shared, as `copy.deepcopy` would keep it."""
    return json.loads(json.dumps(document))


def _position(pointer: str) -> list[int]:
    return [int(part) for part in pointer.split("/") if part.isdigit()]


def _sibling(path: str, name: str) -> str:
    before, dot, _ = path.rpartition(".")
    return f"{before}{dot}{name}"


def _names(layers: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for index, entry in enumerate(layers):
        yield local_name(entry, index)
        yield from _names(entry.get("layers", ()))


def _meaning(architecture: Architecture) -> list[tuple[object, ...]]:
    return [
        (node.name, node.type, node.args, node.inputs, node.init, node.shares)
        for node in architecture.layers
    ]
