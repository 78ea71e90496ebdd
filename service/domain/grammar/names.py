"""Names of layers and groups, and what a name means where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from service.domain.architecture import Sample

INPUT = "input"
"""The name of what comes in; inside a group, of what comes into the group."""
MAX_NAME = 100
"""Characters of one name; longer ones do not fit a table or a chart."""

_NAME = re.compile(r"[\w-]+")


def name_fault(name: object, samples: Iterable[Sample] = ()) -> str | None:
    """What is wrong with a name, or None. Dots are kept for paths into groups."""
    if not isinstance(name, str) or not name:
        return "a name must be a text of at least one character"
    if len(name) > MAX_NAME:
        return f"a name may have {MAX_NAME} characters, this one has {len(name)}"
    if not _NAME.fullmatch(name):
        return "a name may have letters, digits, _ and -"
    if name == INPUT:
        return "`input` names what comes in, a layer needs another name"
    if any(name == sample.name for sample in samples):
        return f"`{name}` names an input, a layer needs another name"
    return None


@dataclass(slots=True)
class Scope:
    """One list of layers, seen from inside. A group's list has the list around it as parent."""

    incoming: str
    """The layer that `input` stands for here."""
    prefix: str = ""
    """Put before the names of this list: body.0. and so on."""
    parent: Scope | None = None
    names: dict[str, str] = field(default_factory=dict)
    """Names of this list so far → the layer each stands for (a group: its last layer)."""
    above: str = ""
    """The layer that a default input means: the one before, at first what comes in."""

    def __post_init__(self) -> None:
        self.above = self.incoming

    def find(self, name: str) -> str | None:
        """The layer a name stands for, innermost list first."""
        if name == INPUT:
            return self.incoming
        if name in self.names:
            return self.names[name]
        return self.parent.find(name) if self.parent else None

    def visible(self) -> Iterator[str]:
        """Every name that `find` knows, innermost and latest first."""
        yield from reversed(self.names)
        if self.parent:
            yield from self.parent.visible()
        else:
            yield INPUT
