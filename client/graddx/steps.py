"""What a call of the server is made of, apart from how it is made.

An operation (graddx.operations) is a generator: it yields steps and is given what came of them.
Two transports perform steps, one that blocks and one that is awaited, so every call is written
once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

T = TypeVar("T")

Params = Mapping[str, str | int | float | Sequence[str]]
Sent = Callable[[int, int], None]
"""Called while a file is sent: bytes sent so far, bytes in all. A file that is sent again begins
again."""


@dataclass(frozen=True, slots=True)
class Send:
    """One request. It gives the httpx2.Response with its body, whatever its status; raises
    httpx2.TransportError where none came, OSError where a file cannot be read or written."""

    method: str
    """As HTTP names it."""
    path: str
    """Below the server's address."""
    params: Params | None = None
    """Of the query."""
    content: bytes | None = None
    """JSON."""
    file: Path | None = None
    """Streamed, instead of `content`."""
    into: Path | None = None
    """Where the body of a success is streamed to, instead of into the response."""
    accept: str | None = None
    """Media type; None: whatever the server gives."""
    hold: float = 0.0
    """Seconds that the server was asked to hold the answer."""
    sent: Sent | None = None
    """Told how much of `file` is sent."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait. It gives nothing."""

    seconds: float
    """≥ 0."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A long answer that is read line by line, as it comes. Raises ApiError, ConnectionFailed."""

    path: str
    """Below the server's address."""
    accept: str
    """Media type."""
    silence: float
    """Seconds without a line after which it is given up."""


@dataclass(frozen=True, slots=True)
class Follow:
    """Read a stream until it ends or `take` has enough. It gives nothing; raises as the stream."""

    stream: Stream
    take: Callable[[str], bool]
    """Given each line; True: enough."""


Step: TypeAlias = Send | Pause | Follow
Steps: TypeAlias = Generator[Step, Any, T]
"""An operation under way; T is what it comes to."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list."""

    items: tuple[T, ...]
    next_cursor: str | None
    """None on the last page."""


Pages: TypeAlias = Callable[[str | None], Steps[Page[T]]]
"""From a cursor, None for the first page, to that page."""
