"""Server-Sent Events (WHATWG HTML), as far as the server uses them."""

from __future__ import annotations

import msgspec

from graddx.results import Progress

EVENT_STREAM = "text/event-stream"


class EventReader:
    """Fed line by line; comments, and what is no progress, are passed over."""

    def __init__(self) -> None:
        self._data: list[str] = []

    def feed(self, line: str) -> Progress | None:
        """The event that ends with this line, if one does."""
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
        elif not line and self._data:
            data = "\n".join(self._data)
            self._data.clear()
            return _progress(data)
        return None


def _progress(data: str) -> Progress | None:
    try:
        return msgspec.json.decode(data, type=Progress)
    except msgspec.DecodeError:
        return None
