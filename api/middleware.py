"""What surrounds every request, outermost first: request id, security headers, a net for what
nobody caught, other sites' pages, the doorkeeper (`api/doorkeeper.py`), the body limit. Pure ASGI:
uploads stream through and disconnects are seen."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

import structlog
from asgi_correlation_id import correlation_id
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.error_handlers import Forbidden, internal_error, of_error, respond
from service.domain.errors import PayloadTooLarge

log = structlog.get_logger()

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Sent unless the route set its own: models are private, and answers are data, not pages."""


SAFE = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""


class SecurityHeaders:
    """Adds SECURITY_HEADERS to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)


class SameOrigin:
    """Refuses what a page of another site makes a browser send. A form needs no permission to post
    a model to a server on the reader's own machine."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["method"] not in SAFE and _foreign(scope):
            error = Forbidden("this call came from a page of another site")
            await respond(of_error(error))(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _foreign(scope: Scope) -> bool:
    """What the browser says; old ones say only the page's origin. Other clients say nothing."""
    headers = Headers(scope=scope)
    if site := headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


class Unexpected:
    """An exception that nobody caught: logged whole, answered without a word of it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        started = False

        async def note_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, note_start)
        except Exception:
            if scope["type"] != "http" or started:
                raise
            log.exception(
                "unexpected error",
                method=scope["method"],
                path=scope["path"],
                request_id=correlation_id.get(),
            )
            await internal_error()(scope, receive, send)


class BodyLimit:
    """Refuses bodies over `limit` bytes: at once by Content-Length, else while they stream."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif _announced(scope) > self.limit:
            await respond(of_error(too_large(self.limit)))(scope, receive, send)
        else:
            await self.app(scope, self._counting(receive), send)

    def _counting(self, receive: Receive) -> Receive:
        total = 0

        async def count() -> MutableMapping[str, Any]:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self.limit:
                raise too_large(self.limit)
            return message

        return count


def too_large(limit: int) -> PayloadTooLarge:
    """The body is over `limit` bytes."""
    return PayloadTooLarge(f"the body is larger than {limit / 2**20:g} MiB")


def _announced(scope: Scope) -> int:
    length = Headers(scope=scope).get("content-length", "")
    return int(length) if length.isdecimal() else 0
