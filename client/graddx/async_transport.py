"""Steps performed without blocking, under asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any, TypeVar

import anyio
import httpx2

from graddx.calling import reason
from graddx.errors import ConnectionFailed
from graddx.reading import read_error
from graddx.server import LIMITS, Server, headers_of
from graddx.steps import Follow, Pause, Send, Step, Steps, Stream
from graddx.transport import CHUNK

T = TypeVar("T")
_sleep = anyio.sleep


class AsyncTransport:
    """Is awaited; `graddx.transport` is the same that blocks."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._http = httpx2.AsyncClient(headers=server.headers, limits=LIMITS)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def run(self, steps: Steps[T]) -> T:
        """What an operation comes to. What goes wrong with a step is the operation's to handle, a
        cancellation too: what it still does then is not cancelled once more."""
        cancelled = False
        try:
            step = next(steps)
            while True:
                try:
                    with anyio.CancelScope(shield=cancelled):
                        outcome = await self._perform(step)
                except BaseException as error:
                    cancelled = cancelled or not isinstance(error, Exception)
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result

    async def lines(self, stream: Stream) -> AsyncGenerator[str]:
        """The lines of a long answer as they come. Raises ApiError, ConnectionFailed."""
        try:
            async with self._http.stream(
                "GET",
                f"{self.server.url}{stream.path}",
                headers={"Accept": stream.accept},
                timeout=self.server.timeout_of(stream),
            ) as response:
                if not response.is_success:
                    await response.aread()
                    raise read_error(response)
                async for line in response.aiter_lines():
                    yield line
        except httpx2.TransportError as error:
            raise ConnectionFailed(self.server.url, reason(error)) from error

    async def _perform(self, step: Step) -> Any:
        match step:
            case Send():
                return await self._send(step)
            case Pause():
                return await _sleep(step.seconds)
            case Follow():
                return await self._follow(step)

    async def _follow(self, follow: Follow) -> None:
        async with aclosing(self.lines(follow.stream)) as lines:
            async for line in lines:
                if follow.take(line):
                    return

    async def _send(self, send: Send) -> httpx2.Response:
        async with AsyncExitStack() as opened:
            response = await opened.enter_async_context(
                self._http.stream(
                    send.method,
                    f"{self.server.url}{send.path}",
                    params=send.params,
                    content=_chunks(send) if send.file else send.content,
                    headers=headers_of(send),
                    timeout=self.server.timeout_of(send),
                )
            )
            if send.into is None or not response.is_success:
                await response.aread()
            else:
                async with await anyio.open_file(send.into, "wb") as target:
                    async for chunk in response.aiter_bytes():
                        await target.write(chunk)
            return response


async def _chunks(send: Send) -> AsyncIterator[bytes]:
    assert send.file is not None
    total, done = send.file.stat().st_size, 0
    async with await anyio.open_file(send.file, "rb") as file:
        while chunk := await file.read(CHUNK):
            yield chunk
            done += len(chunk)
            if send.sent:
                send.sent(done, total)
