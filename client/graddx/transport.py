"""Steps performed one after the other, in the thread that asks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import httpx2

from graddx.calling import reason
from graddx.errors import ConnectionFailed
from graddx.reading import read_error
from graddx.server import LIMITS, Server, headers_of
from graddx.steps import Follow, Pause, Send, Step, Steps, Stream

CHUNK = 1 << 16
"""Bytes of a file that are sent at a time."""

T = TypeVar("T")


class Transport:
    """Blocks; `graddx.async_transport` is the same to be awaited."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._http = httpx2.Client(headers=server.headers, limits=LIMITS)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def run(self, steps: Steps[T]) -> T:
        """What an operation comes to. What goes wrong with a step is the operation's to handle, an
        interruption too."""
        try:
            step = next(steps)
            while True:
                try:
                    outcome = self._perform(step)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result

    def lines(self, stream: Stream) -> Iterator[str]:
        """The lines of a long answer as they come. Raises ApiError, ConnectionFailed."""
        try:
            with self._http.stream(
                "GET",
                f"{self.server.url}{stream.path}",
                headers={"Accept": stream.accept},
                timeout=self.server.timeout_of(stream),
            ) as response:
                if not response.is_success:
                    response.read()
                    raise read_error(response)
                yield from response.iter_lines()
        except httpx2.TransportError as error:
            raise ConnectionFailed(self.server.url, reason(error)) from error

    def _perform(self, step: Step) -> Any:
        match step:
            case Send():
                return self._send(step)
            case Pause():
                return time.sleep(step.seconds)
            case Follow():
                return any(step.take(line) for line in self.lines(step.stream))

    def _send(self, send: Send) -> httpx2.Response:
        with ExitStack() as opened:
            response = opened.enter_context(
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
                response.read()
            else:
                with send.into.open("wb") as target:
                    target.writelines(response.iter_bytes())
            return response


def _chunks(send: Send) -> Iterator[bytes]:
    assert send.file is not None
    total, done = send.file.stat().st_size, 0
    with send.file.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
            done += len(chunk)
            if send.sent:
                send.sent(done, total)
