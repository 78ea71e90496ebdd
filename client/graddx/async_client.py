"""The client that is awaited, under asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar

from graddx.async_transport import AsyncTransport
from graddx.binding import as_method
from graddx.events import EventReader
from graddx.operations import analyses, findings, repair, submission
from graddx.operations.paths import analysis_path
from graddx.results import Progress
from graddx.server import DEFAULT_URL, Server, server_at
from graddx.steps import Pages, Steps, Stream

P = ParamSpec("P")
T = TypeVar("T")


class _Awaited(Protocol):
    _transport: AsyncTransport


def _call(
    operation: Callable[Concatenate[Server, P], Steps[T]],
) -> Callable[Concatenate[_Awaited, P], Coroutine[Any, Any, T]]:
    """An operation as a method."""

    async def method(self: _Awaited, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transport.run(operation(self._transport.server, *args, **kwargs))

    return as_method(method, operation, "{}")


def _items(
    operation: Callable[Concatenate[Server, P], Pages[T]],
) -> Callable[Concatenate[_Awaited, P], AsyncIterator[T]]:
    """A list as a method; its pages are asked for as they are needed."""

    async def method(self: _Awaited, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        pages = operation(self._transport.server, *args, **kwargs)
        cursor: str | None = None
        while True:
            page = await self._transport.run(pages(cursor))
            for item in page.items:
                yield item
            cursor = page.next_cursor
            if cursor is None:
                return

    return as_method(method, operation, "AsyncIterator[{}]")


def _events(
    operation: Callable[Concatenate[Server, P], Stream],
) -> Callable[Concatenate[_Awaited, P], AsyncIterator[Progress]]:
    """A stream of events as a method."""

    async def method(
        self: _Awaited, /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncIterator[Progress]:
        reader = EventReader()
        stream = operation(self._transport.server, *args, **kwargs)
        async with aclosing(self._transport.lines(stream)) as lines:
            async for line in lines:
                if (now := reader.feed(line)) is not None:
                    yield now

    return as_method(method, operation, "AsyncIterator[Progress]")


class AsyncClient:
    """A graddx server; `Client` to be awaited.

        async with AsyncClient("http://127.0.0.1:8000") as client:
            analysis = await client.analyze("net.pt", probe={"inputs": [{"shape": [3, 32, 32]}]})

    Many models at a time: start many calls, in a TaskGroup. A call whose task is cancelled cancels
    the analysis that it waited for, as `analyze` says."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 4,
    ) -> None:
        """As `Client`."""
        self._transport = AsyncTransport(server_at(url, api_key, timeout, retries))

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

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
