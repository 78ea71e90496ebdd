"""From an HTTP answer to dataclasses or to the exception it means."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import msgspec
from httpx2 import Response

from graddx.errors import ApiError, Problem, ServerError, api_error
from graddx.results import AnalysisHead

PROBLEM = "application/problem+json"
EXCERPT = 200
"""Characters of a foreign answer that are told."""

T = TypeVar("T")
Head = TypeVar("Head", bound=AnalysisHead)


def read(response: Response, kind: type[T]) -> T:
    """The body as `kind`. Raises ServerError when it is something else."""
    return _convert(response, _document(response), kind)


def read_analysis(response: Response, kind: type[Head]) -> Head:
    """As `read`; keeps the answer itself in `raw`."""
    document = _document(response)
    return _convert(response, {**document, "raw": document}, kind)


def read_list(response: Response) -> list[dict[str, Any]]:
    """A body that is a list of objects. Raises ServerError when it is something else."""
    try:
        return msgspec.json.decode(response.content, type=list[dict[str, Any]])
    except msgspec.DecodeError as error:
        raise _not_understood(response, str(error)) from error


def read_page(response: Response, kind: type[Head]) -> tuple[tuple[Head, ...], str | None]:
    """Items of one page of a list, and the cursor of the next."""
    page = read(response, _Page)
    items = (_convert(response, {**item, "raw": item}, kind) for item in page.items)
    return tuple(items), page.next_cursor


def read_error(response: Response) -> ApiError:
    """The exception that an answer of 300 or more means."""
    retry_after = _seconds(response.headers.get("Retry-After"))
    if response.headers.get("Content-Type", "").startswith(PROBLEM):
        try:
            return api_error(msgspec.json.decode(response.content, type=Problem), retry_after)
        except msgspec.DecodeError:
            pass
    return api_error(_foreign(response), retry_after)


@dataclass(frozen=True, slots=True)
class _Page:
    """Answer of a list."""

    items: tuple[dict[str, Any], ...] = ()
    next_cursor: str | None = None
    """None on the last page."""


def _document(response: Response) -> dict[str, Any]:
    try:
        return msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise _not_understood(response, str(error)) from error


def _convert(response: Response, document: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise _not_understood(response, str(error)) from error


def _not_understood(response: Response, why: str) -> ServerError:
    detail = f"{response.request.url} gave something else than graddx does ({why})"
    return ServerError(Problem(response.status_code, "not_understood", "Not understood", detail))


def _foreign(response: Response) -> Problem:
    """An answer that graddx did not write: a proxy, another server."""
    status = response.status_code
    title = response.reason_phrase or f"HTTP {status}"
    moved = response.headers.get("Location")
    detail = f"moved to {moved}" if moved else " ".join(response.text[:EXCERPT].split())
    return Problem(status, f"http_{status}", title, detail)


def _seconds(retry_after: str | None) -> float | None:
    """Of `Retry-After`, which is a number of seconds or a date (RFC 9110)."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
