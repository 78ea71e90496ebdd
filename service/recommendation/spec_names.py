"""Who reads whom in a submitted spec, by JSON pointer: the grammar's rules for names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Entry = Mapping[str, Any]


def local_name(entry: Entry, index: int) -> str:
    """What a layer or group is called in its list."""
    return str(entry.get("name", f"layer{index}"))


def readers(spec: Mapping[str, Any]) -> dict[str, list[str]]:
    """Pointer of a layer or group → pointers of the `inputs` that name it itself.

    A default input and the name of a group around a layer are no such readers: they follow what
    stands last."""
    reading = _Reading()
    reading.walk(spec["layers"], "/layers", _Scope())
    return reading.found


@dataclass(slots=True)
class _Scope:
    parent: _Scope | None = None
    names: dict[str, tuple[str, Entry]] = field(default_factory=dict)
    """Local name → pointer and entry."""

    def find(self, name: str) -> tuple[str, Entry] | None:
        if name in self.names:
            return self.names[name]
        return self.parent.find(name) if self.parent else None


class _Reading:
    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}
        self._outermost: dict[str, tuple[str, Entry]] = {}
        """Of the outermost list, the entry at hand too: its layers may name each other by path."""

    def walk(self, layers: Sequence[Entry], pointer: str, scope: _Scope) -> None:
        for index, entry in enumerate(layers):
            here = f"{pointer}/{index}"
            if scope.parent is None:
                self._outermost[local_name(entry, index)] = (here, entry)
            for place, name in enumerate(entry.get("inputs", ())):
                read = self._meant(name, scope)
                if read is not None:
                    self.found.setdefault(read, []).append(f"{here}/inputs/{place}")
            if "layers" in entry:
                self.walk(entry["layers"], f"{here}/layers", _Scope(scope))
            scope.names[local_name(entry, index)] = (here, entry)

    def _meant(self, name: str, scope: _Scope) -> str | None:
        """The pointer a name stands for; None for what comes in and for repetitions."""
        if name == "input":
            return None
        known = scope.find(name)
        return known[0] if known else self._by_path(name.split("."))

    def _by_path(self, path: list[str]) -> str | None:
        """A dotted path counts from the outermost list; a repetition has a number in it."""
        known = self._outermost.get(path[0])
        parts = iter(path[1:])
        for part in parts:
            if known is None:
                return None
            pointer, entry = known
            name: str | None = part
            if "repeat" in entry:
                name = next(parts, None)
            known = next(
                (
                    (f"{pointer}/layers/{index}", child)
                    for index, child in enumerate(entry.get("layers", ()))
                    if local_name(child, index) == name
                ),
                None,
            )
        return known[0] if known else None
