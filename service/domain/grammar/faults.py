"""What is wrong with a spec, gathered until it is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NoReturn

from service.domain.errors import Fault, InvalidRequest
from service.domain.layers.kinds import shown
from service.domain.layers.signature import hint, quoted

MAX_FAULTS = 20
"""Faults told at once; a spec with more is wrong in some way that repeats."""


def below(pointer: str, *steps: str | int) -> str:
    """A JSON pointer some steps further down (RFC 6901: ~ and / are written ~0 and ~1)."""
    escaped = (str(step).replace("~", "~0").replace("/", "~1") for step in steps)
    return "/".join((pointer, *escaped))


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
            self._raise()

    def stop(self, pointer: str, detail: str) -> NoReturn:
        """Note a fault that makes going on pointless (a limit), and raise."""
        self._found.append((InvalidRequest, Fault(pointer, detail)))
        self._raise()

    def raise_if_any(self) -> None:
        """Raises InvalidRequest (or what the first fault asks for) with every fault."""
        if self._found:
            self._raise()

    def check_fields(
        self, pointer: str, entry: Mapping[str, Any], fields: Sequence[str], what: str
    ) -> None:
        """Note fields that `what` does not have."""
        unknown = (field for field in entry if field not in fields)
        for field in islice(unknown, MAX_FAULTS):
            detail = f"{what} has no field {quoted(str(field))}{hint(str(field), fields)}"
            self.add(below(pointer, field), detail)

    def object_at(
        self, entry: Mapping[str, Any], field: str, pointer: str
    ) -> dict[str, Any] | None:
        """The object in an optional field, empty when it is left out; None, which is noted, when
        something else stands there."""
        value = entry.get(field, {})
        if isinstance(value, dict):
            return value
        self.add(below(pointer, field), f"`{field}` must be an object, not {shown(value)}")
        return None

    def _raise(self) -> NoReturn:
        error, first = self._found[0]
        raise error(first.detail, faults=[fault for _, fault in self._found])
