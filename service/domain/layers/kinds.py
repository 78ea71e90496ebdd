"""What an argument may be: JSON values, checked without torch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Protocol

MAX_SIZE = 100_000_000
"""Largest integer argument: no tensor of the network may be larger than this, so no side may."""
LARGEST_FLOAT32 = 3.4028234663852886e38
"""Parameters are float32; PyTorch refuses a larger fill value."""
MAX_SHOWN = 60
"""Characters of a wrong value that a message repeats."""


class Kind(Protocol):
    """One sort of argument."""

    @property
    def expects(self) -> str:
        """The values it takes, in words that follow "must be"."""

    def accepts(self, value: object) -> bool:
        """Whether a JSON value is one of them."""


def is_integer(value: object) -> bool:
    """A JSON integer; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Whole:
    """An integer in a closed range."""

    low: int = 1
    high: int = MAX_SIZE

    @property
    def expects(self) -> str:
        return f"an integer from {self.low} to {self.high}"

    def accepts(self, value: object) -> bool:
        return (
            isinstance(value, int)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
        )


@dataclass(frozen=True, slots=True)
class Real:
    """A finite number in a closed range, or above an open lower end."""

    low: float = -LARGEST_FLOAT32
    high: float = LARGEST_FLOAT32
    above: float | None = None
    """Open lower end."""

    @property
    def expects(self) -> str:
        if self.above is not None:
            return f"a number above {self.above:g}"
        if self.low > -LARGEST_FLOAT32 and self.high < LARGEST_FLOAT32:
            return f"a number from {self.low:g} to {self.high:g}"
        if self.low > -LARGEST_FLOAT32:
            return f"a number of at least {self.low:g}"
        return "a finite number"

    def accepts(self, value: object) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        above = self.above is None or value > self.above
        return above and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""

    @property
    def expects(self) -> str:
        return "true or false"

    def accepts(self, value: object) -> bool:
        return isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]

    @property
    def expects(self) -> str:
        return "one of " + ", ".join(f'"{word}"' for word in self.words)

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and value in self.words


@dataclass(frozen=True, slots=True)
class Text:
    """Any text; what it may say is checked elsewhere."""

    @property
    def expects(self) -> str:
        return "a text"

    def accepts(self, value: object) -> bool:
        return isinstance(value, str)


@dataclass(frozen=True, slots=True)
class Each:
    """A list whose items are all of one kind."""

    item: Kind
    counts: tuple[int, ...]
    """Lengths it may have."""

    @property
    def expects(self) -> str:
        low, high = self.counts[0], self.counts[-1]
        length = f"{low}" if low == high else f"{low} to {high}"
        return f"a list of {length} items, each {self.item.expects}"

    def accepts(self, value: object) -> bool:
        return (
            isinstance(value, list | tuple)
            and len(value) in self.counts
            and all(self.item.accepts(item) for item in value)
        )


@dataclass(frozen=True, slots=True)
class OnlyFalse:
    """false: an argument that torch knows and the probe cannot do."""

    why: str
    """Ends the sentence "must be false: "."""

    @property
    def expects(self) -> str:
        return f"false: {self.why}"

    def accepts(self, value: object) -> bool:
        return value is False


@dataclass(frozen=True, slots=True)
class Nested:
    """A layer as an argument: {"type": …, "args": {…}}."""

    types: tuple[str, ...]
    """Types it may have."""

    @property
    def expects(self) -> str:
        return f'an object {{"type": …, "args": {{…}}}} of type {" or ".join(self.types)}'

    def accepts(self, value: object) -> bool:
        return (
            isinstance(value, dict)
            and value.keys() <= {"type", "args"}
            and value.get("type") in self.types
            and isinstance(value.get("args", {}), dict)
        )


@dataclass(frozen=True, slots=True)
class Null:
    """null."""

    @property
    def expects(self) -> str:
        return "null"

    def accepts(self, value: object) -> bool:
        return value is None


@dataclass(frozen=True, slots=True)
class Either:
    """One kind or another."""

    kinds: tuple[Kind, ...]

    @property
    def expects(self) -> str:
        return ", or ".join(kind.expects for kind in self.kinds)

    def accepts(self, value: object) -> bool:
        return any(kind.accepts(value) for kind in self.kinds)


def optional(kind: Kind) -> Either:
    """The kind, or null."""
    return Either((kind, Null()))


def sides(count: int, low: int = 1) -> Either:
    """One integer for every spatial side, or a list of one per side."""
    return Either((Whole(low), Each(Whole(low), (count,))))


def shown(value: object) -> str:
    """A value in a message, cut to a readable length however large it is."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge integer"
    if isinstance(value, float) and not math.isfinite(value):
        return "a number that is not finite"
    if isinstance(value, list | tuple):
        if len(value) > 8 or any(isinstance(item, list | tuple | dict) for item in value):
            return f"a list of {len(value)}"
        return "[" + ", ".join(shown(item) for item in value) + "]"
    text = json.dumps(value[:MAX_SHOWN] if isinstance(value, str) else value, default=repr)
    return text if len(text) <= MAX_SHOWN + 2 else text[:MAX_SHOWN] + "…"
