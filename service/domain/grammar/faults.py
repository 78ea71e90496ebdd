"""What is wrong with a spec, gathered until it is enough."""

from __future__ import annotations

from typing import NoReturn

from service.domain.errors import Fault, InvalidRequest

MAX_FAULTS = 20
"""Faults told at once; a spec with more is wrong in some way that repeats."""


def below(pointer: str, *parts: str | int) -> str:
    """A JSON pointer some steps further down (RFC 6901: ~ and / are written ~0 and ~1)."""
    steps = (str(part).replace("~", "~0").replace("/", "~1") for part in parts)
    return "/".join((pointer, *steps))


class Faults:
    """The faults found so far. The first one decides the kind of error."""

    def __init__(self) -> None:
        self._found: list[tuple[type[InvalidRequest], Fault]] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, pointer: str, detail: str, error: type[InvalidRequest] = InvalidRequest) -> None:
        """Note one fault. Raises all of them once there are MAX_FAULTS."""
        self._found.append((error, Fault(pointer, detail)))
        if len(self._found) >= MAX_FAULTS:
            self.raise_if_any()

    def stop(self, pointer: str, detail: str) -> NoReturn:
        """Note a fault that makes going on pointless (a limit), and raise."""
        self._found.append((InvalidRequest, Fault(pointer, detail)))
        self.raise_if_any()
        raise AssertionError("there is at least one fault")

    def raise_if_any(self) -> None:
        """Raises InvalidRequest (or what the first fault asks for) with every fault."""
        if self._found:
            error, first = self._found[0]
            raise error(first.detail, faults=[fault for _, fault in self._found])
