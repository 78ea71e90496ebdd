"""Arguments of constructors and functions, and whether given values agree with them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from typing import Any, Final

from service.domain.layers.kinds import MAX_SHOWN, Kind, shown
from service.domain.layers.tensor import Inputs

Args = Mapping[str, Any]
Infer = Callable[[Inputs, Any], Any]
"""From the inputs and the value given (None: left out), the value that fits the inputs."""
MAX_UNKNOWN = 20
"""Unknown names listed for one call; more tell nothing new."""
MAX_COMPARED = 200
"""Known names searched for the one a typing error meant: the search is slow."""


class Default(Enum):
    """Marks an argument that has no default."""

    REQUIRED = auto()


REQUIRED: Final = Default.REQUIRED


class BadArgument(Exception):
    """An argument that is wrong in itself."""

    def __init__(self, argument: str, detail: str, *, within: tuple[str, ...] = ()) -> None:
        super().__init__(detail)
        self.steps = (*within, argument)
        """Its name, after the way to it through a layer that is itself an argument."""
        self.detail = detail
        """What is wrong and what was expected."""

    def inside(self, *way: str) -> BadArgument:
        """The same, seen from further out."""
        return BadArgument(self.steps[-1], self.detail, within=(*way, *self.steps[:-1]))


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument."""

    name: str
    """PyTorch's."""
    kind: Kind
    """The values it takes."""
    default: Any = REQUIRED
    """Value when left out, as torch has it."""
    infer: Infer | None = None
    """None: it must be given unless it has a default."""
    unit: str = ""
    """What it counts, for messages: features, channels."""
    source: int = 0
    """Which of the inputs it is inferred from, for messages."""

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is REQUIRED and self.infer is None


@dataclass(frozen=True, slots=True)
class Signature:
    """The arguments of one constructor or function."""

    owner: str
    """Its name."""
    arguments: tuple[Argument, ...]
    """In its order."""
    check: Callable[[Args], None] | None = None
    """What the arguments owe each other, defaults filled in. Raises BadArgument."""

    def faults(self, given: Args) -> list[BadArgument]:
        """Everything wrong with these values."""
        names = [argument.name for argument in self.arguments]
        unknown = (name for name in given if name not in names)
        found = [
            BadArgument(name, f"{self.owner} has no argument {quoted(name)}{hint(name, names)}")
            for name in islice(unknown, MAX_UNKNOWN)
        ]
        found += filter(None, (_fault(argument, given) for argument in self.arguments))
        if not found and self.check is not None:
            try:
                self.check(self.complete(given))
            except BadArgument as fault:
                found.append(fault)
        return found

    def complete(self, given: Args) -> dict[str, Any]:
        """The values, and the defaults of those that were left out."""
        defaults = {a.name: a.default for a in self.arguments if a.default is not REQUIRED}
        return {**defaults, **given}


def _fault(argument: Argument, given: Args) -> BadArgument | None:
    name = argument.name
    if name not in given:
        return BadArgument(name, f"`{name}` is missing") if argument.required else None
    if argument.kind.accepts(given[name]):
        return None
    expects, wrong = argument.kind.expects, shown(given[name])
    return BadArgument(name, f"`{name}` must be {expects}, not {wrong}")


def quoted(name: str) -> str:
    """A name in a message, cut to a readable length."""
    return f"`{name[:MAX_SHOWN]}`"


def hint(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known name it resembles most."""
    by_lower_case = {other.lower(): other for other in islice(known, MAX_COMPARED)}
    close = difflib.get_close_matches(name[:MAX_SHOWN].lower(), by_lower_case, n=1)
    return f"; did you mean {quoted(by_lower_case[close[0]])}?" if close else ""
