"""A real HTTP server on loopback that answers as it is told and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

HANG_UP = object()
"""Instead of an answer: close the connection."""


@dataclass(frozen=True)
class Call:
    """What was asked."""

    method: str
    path: str
    """With the query."""
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    body: Any = None
    """Sent as JSON; bytes as they are."""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else json.dumps(self.body).encode()


def problem(status: int, code: str, *, after: str | None = None, **more: Any) -> Reply:
    """An error answer as graddx gives it."""
    headers = {"Content-Type": "application/problem+json"}
    headers |= {"Retry-After": after} if after is not None else {}
    body = {"status": status, "code": code, "title": "A title", "detail": "A detail.", **more}
    return Reply(status, body, headers)


class ScriptedServer:
    """Gives the replies in turn, the last one again and again."""

    def __init__(self) -> None:
        self.replies: list[object] = []
        self.calls: list[Call] = []
        self.gate: threading.Barrier | None = None
        """Where given, calls are answered once so many have come."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                script.calls.append(Call(self.command, self.path, dict(self.headers), body))
                if script.gate is not None:
                    script.gate.wait()
                reply = script.replies.pop(0) if len(script.replies) > 1 else script.replies[0]
                self.close_connection = True
                if not isinstance(reply, Reply):
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.content)))
                self.end_headers()
                self.wfile.write(reply.content)

            do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        return Handler
