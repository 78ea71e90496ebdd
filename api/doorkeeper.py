"""Who calls, how often, and whether they may: before any route is looked for, so that a new route
is behind the door without asking.

A key goes with `Authorization: Bearer gdx_…`. GET and HEAD need the scope `read`, everything else
`write`, /metrics `metrics`; OPEN needs nothing and is not counted. The owner whose analyses and
files the call reaches is left in the request's state (`api.dependencies`).
"""

from __future__ import annotations

import re

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.error_handlers import Forbidden, RateLimited, of_error, respond
from api.rate_limits import RateLimits, Standing, address_of
from service.domain import api_keys
from service.domain.api_keys import Caller
from service.domain.errors import GraddxError, Unauthorized
from service.use_cases import Engine

OPEN = ("/", "/livez", "/readyz", "/docs", "/guide", "/openapi.json")
"""Paths that anyone may read: nothing of any owner is there."""
OPEN_BELOW = ("/docs/", "/guide/", "/assets/", "/examples/")
"""The same with everything below."""
FRONT = "/"
"""Where a person is asked for a key."""
_REPORT = re.compile(r"/v1/analyses/[A-Za-z0-9_-]{1,64}/report")
CHALLENGE = 'Bearer realm="graddx"'
LOOKING = ("GET", "HEAD")


class Doorkeeper:
    """Lets a call through with its owner, or answers 401, 403 or 429."""

    def __init__(self, app: ASGIApp, engine: Engine, limits: RateLimits) -> None:
        self.app = app
        self.engine = engine
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or is_open(scope["path"]):
            await self.app(scope, receive, send)
            return
        caller: Caller | None = None
        refusal: GraddxError | None = None
        try:
            caller = await run_in_threadpool(self.engine.caller, _token(scope))
        except Unauthorized as error:
            refusal = error
        except GraddxError as error:
            await respond(of_error(error))(scope, receive, send)
            return
        standing = self.limits.count(_name(caller, scope))
        if not standing.allowed:
            refusal = RateLimited(
                f"more than {standing.limit} calls in {standing.window_seconds} s; "
                f"again in {standing.reset_seconds} s"
            )
        elif caller is not None and (wanted := needed(scope)) not in caller.scopes:
            refusal = Forbidden(f"this API key has not the scope {wanted}")
        if isinstance(refusal, Unauthorized) and _is_a_person_who_reads(scope):
            # An address in a mail or a merge request: the front page asks for the key and goes on.
            await RedirectResponse(f"{FRONT}#{scope['path']}", 303)(scope, receive, send)
            return
        if refusal is not None:
            await _refuse(refusal, standing)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self.app(scope, receive, _telling(send, standing))


def is_open(path: str) -> bool:
    """Whether anyone may read this."""
    return path in OPEN or path.startswith(OPEN_BELOW)


def needed(scope: Scope) -> api_keys.Scope:
    """What a key must be allowed for this call."""
    if scope["path"] == "/metrics":
        return api_keys.Scope.METRICS
    return api_keys.Scope.READ if scope["method"] in LOOKING else api_keys.Scope.WRITE


def _is_a_person_who_reads(scope: Scope) -> bool:
    """A browser that opens the address of a report; what a page's script asks for is no page."""
    opens = Headers(scope=scope).get("sec-fetch-mode") == "navigate"
    return opens and scope["method"] == "GET" and _REPORT.fullmatch(scope["path"]) is not None


def _token(scope: Scope) -> str | None:
    kind, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _name(caller: Caller | None, scope: Scope) -> str:
    if caller is not None and caller.key_id is not None:
        return f"key {caller.key_id}"
    client = scope.get("client")
    return address_of(client[0] if client else None)


def _refuse(refusal: GraddxError, standing: Standing) -> ASGIApp:
    challenge = {"WWW-Authenticate": CHALLENGE} if isinstance(refusal, Unauthorized) else {}
    return respond(of_error(refusal), {**standing.headers, **challenge})


def _telling(send: Send, standing: Standing) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message["headers"])
            for name, value in standing.headers.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers
