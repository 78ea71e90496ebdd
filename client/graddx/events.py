"""Server-Sent Events (WHATWG HTML), as far as the server uses them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from graddx.results import Progress

EVENT_STREAM = "text/event-stream"


def read_events(lines: Iterable[str]) -> Iterator[Progress]:
    """The `data` of each event; comments, and what is no progress, are passed over."""
    data: list[str] = []
    for line in lines:
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif not line and data:
            progress = _progress("\n".join(data))
            data.clear()
            if progress is not None:
                yield progress


def _progress(data: str) -> Progress | None:
    try:
        return msgspec.json.decode(data, type=Progress)
    except msgspec.DecodeError:
        return None
