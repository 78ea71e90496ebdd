"""The client that blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Concatenate, ParamSpec, Protocol, Self, TypeVar

from graddx.binding import as_method
from graddx.events import EventReader
from graddx.operations import analyses, findings, repair, submission
from graddx.operations.paths import analysis_path
from graddx.results import Progress
from graddx.server import DEFAULT_URL, Server, server_at
from graddx.steps import Pages, Steps, Stream
from graddx.transport import Transport

P = ParamSpec("P")
T = TypeVar("T")


class _Blocking(Protocol):
    _transport: Transport


def _call(
    operation: Callable[Concatenate[Server, P], Steps[T]],
) -> Callable[Concatenate[_Blocking, P], T]:
    """An operation as a method."""

    def method(self: _Blocking, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._transport.run(operation(self._transport.server, *args, **kwargs))

    return as_method(method, operation, "{}")


def _items(
    operation: Callable[Concatenate[Server, P], Pages[T]],
) -> Callable[Concatenate[_Blocking, P], Iterator[T]]:
    """A list as a method; its pages are asked for as they are needed."""

    def method(self: _Blocking, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        pages = operation(self._transport.server, *args, **kwargs)
        cursor: str | None = None
        while True:
            page = self._transport.run(pages(cursor))
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    return as_method(method, operation, "Iterator[{}]")


def _events(
    operation: Callable[Concatenate[Server, P], Stream],
) -> Callable[Concatenate[_Blocking, P], Iterator[Progress]]:
    """A stream of events as a method."""

    def method(self: _Blocking, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[Progress]:
        reader = EventReader()
        for line in self._transport.lines(operation(self._transport.server, *args, **kwargs)):
            if (now := reader.feed(line)) is not None:
                yield now

    return as_method(method, operation, "Iterator[Progress]")


class Client:
    """A graddx server.

        with Client("http://127.0.0.1:8000") as client:
            analysis = client.analyze("net.pt", probe={"inputs": [{"shape": [3, 32, 32]}]})

    Every method raises ApiError when the server refuses and ConnectionFailed when no answer comes;
    calls that can be repeated without harm are (see graddx.retries). What a method takes and gives
    stands with the function of its name in graddx.operations; `AsyncClient` has the same ones to
    be awaited."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 4,
    ) -> None:
        """`api_key`: "gdx_…", for a server that wants one; default: the variable GRADDX_API_KEY.
        `timeout`: seconds until a silent server is given up, besides the time it was asked to
        wait. `retries`: repetitions of a call. Raises InvalidInput when `url` is none."""
        self._transport = Transport(server_at(url, api_key, timeout, retries))

    @property
    def url(self) -> str:
        """Address of the server."""
        return self._transport.server.url

    def address(self, analysis_id: str) -> str:
        """Address of an analysis."""
        return f"{self.url}{analysis_path(analysis_id)}"

    analyze = _call(submission.analyze)
    submit = _call(submission.submit)
    put_artifact = _call(submission.put_artifact)

    get = _call(analyses.get)
    wait = _call(analyses.wait)
    events = _events(analyses.events)
    cancel = _call(analyses.cancel)
    delete = _call(analyses.delete)
    list = _items(analyses.list_analyses)

    layers = _call(findings.layers)
    compare = _call(findings.compare)
    layer_history = _items(findings.layer_history)
    sarif = _call(findings.sarif)
    junit = _call(findings.junit)
    markdown = _call(findings.markdown)
    report = _call(findings.report)
    catalog = _call(findings.catalog)

    prescription_spec = _call(repair.prescription_spec)
    prescription_patch = _call(repair.prescription_patch)
    prescription_code = _call(repair.prescription_code)
    download_state_dict = _call(repair.download_state_dict)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
