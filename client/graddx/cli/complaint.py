"""Why there is no diagnosis, on stderr, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from graddx.cli.human import clean
from graddx.errors import (
    AnalysisUnfinished,
    ApiError,
    ConnectionFailed,
    Fault,
    GraddxError,
    InvalidRequest,
    NotFinished,
    NotFound,
    Unauthorized,
)


def complain(console: Console, error: GraddxError, url: str) -> None:
    """The error, everything that is wrong with the request, and a hint."""
    console.print(Text.assemble(("error: ", "bold red"), clean(_sentence(error))))
    if isinstance(error, ApiError):
        for fault in error.errors:
            console.print(Text(clean(_line(fault))))
        if error.request_id and error.status >= 500:
            console.print(Text(f"The server's log has it under request id {error.request_id}."))
    for hint in _hints(error, url):
        console.print(Text.assemble(("hint: ", "bold"), clean(hint)), soft_wrap=True)


def _sentence(error: GraddxError) -> str:
    if isinstance(error, InvalidRequest) and error.errors:
        return f"{error.title} ({error.code})"
    return f"{error} ({error.code})" if isinstance(error, ApiError) else str(error)


def _line(fault: Fault) -> str:
    where = fault.parameter or fault.pointer
    return f"  {where}: {fault.detail}" if where else f"  {fault.detail}"


def _hints(error: GraddxError, url: str) -> Iterator[str]:
    match error:
        case ConnectionFailed():
            yield "is the server running? `make run` starts one; --url or GRADDX_URL says where."
        case NotFinished():
            yield f"it goes on: {url}/v1/analyses/{error.analysis.id}; wait longer with --timeout."
        case Unauthorized():
            yield "give an API key in the variable GRADDX_API_KEY, or with --api-key."
        case AnalysisUnfinished():
            yield "wait for it, and ask again."
        case NotFound(code=code) if code in ("not_found", "http_404"):
            yield f"is {url} the address of a graddx server, without a path such as /docs?"
