"""Strict JSON: what any later part may rely on when it is handed a request body."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from service.domain.errors import Fault, InvalidRequest

MAX_DEPTH = 64
"""Levels of arrays and objects; a spec needs four per nested group."""
MAX_VALUES = 200_000
"""Values in all; the largest network that is accepted needs some 160,000. Beyond, reading them
would hold up every other call for seconds."""
MAX_INTEGER = 2**63 - 1
"""What torch's int64 sizes and seeds can hold."""


def parse_json(body: bytes | str) -> dict[str, Any]:
    """The JSON object in `body`, holding only finite float64 and int64 numbers and text that is
    valid Unicode without NUL. Raises InvalidRequest."""
    try:
        parsed = json.loads(body, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise InvalidRequest(f"nested deeper than {MAX_DEPTH} levels") from error
    except ValueError as error:
        raise InvalidRequest(f"not valid JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise InvalidRequest("the body must be a JSON object")
    if faults := _faults(parsed):
        raise InvalidRequest(faults[0].detail, faults=faults)
    return parsed


def pointer(parts: tuple[int | str, ...]) -> str:
    """RFC 6901 pointer of a path into a JSON document."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _faults(document: dict[str, Any]) -> list[Fault]:
    """Everything in the document that no later part could hold; walks without recursion."""
    faults: list[Fault] = []
    waiting: list[tuple[tuple[int | str, ...], Any]] = [((), document)]
    seen = 0
    while waiting:
        seen += 1
        if seen + len(waiting) > MAX_VALUES:
            return [Fault("", f"the body has more than {MAX_VALUES:,} values")]
        path, value = waiting.pop()
        if complaint := _complaint(value, len(path)):
            faults.append(Fault(pointer(path), complaint))
        elif isinstance(value, dict):
            complaints = filter(None, map(_text, value))
            faults += [Fault(pointer(path), f"in a name: {one}") for one in complaints]
            waiting += [((*path, name), item) for name, item in value.items() if not _text(name)]
        elif isinstance(value, list):
            waiting += [((*path, index), item) for index, item in enumerate(value)]
    return faults


def _complaint(value: Any, depth: int) -> str | None:
    if depth > MAX_DEPTH:
        return f"nested deeper than {MAX_DEPTH} levels"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "the number does not fit a 64-bit float"
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "the number does not fit a 64-bit integer"
    return None


def _text(value: str) -> str | None:
    if "\0" in value:
        return "text may not hold the character NUL"
    return "text holds half of a surrogate pair" if _broken(value) else None


def _broken(value: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in value)
