"""One call with its repetitions, as steps: an exception for all that is not success."""

from __future__ import annotations

import json
import logging
import math
import time
from typing import Any

import httpx2

from graddx.errors import ConnectionFailed, GraddxError, InvalidInput
from graddx.reading import read_error
from graddx.retries import Retries, may_repeat, pause_asked
from graddx.server import Server
from graddx.steps import Pause, Send, Steps

log = logging.getLogger("graddx")


def call(
    server: Server, send: Send, *, patience: int = 1, until: float = math.inf
) -> Steps[httpx2.Response]:
    """The answer, when it is a success. `patience` multiplies the repetitions, of which none begins
    after `until` (a monotonic time). Raises ApiError, ConnectionFailed; OSError of a file."""
    for pause in Retries(server.retries.times * patience).pauses():
        try:
            response: httpx2.Response = yield send
        except httpx2.TransportError as error:
            failure: GraddxError = ConnectionFailed(server.url, reason(error))
            failure.__cause__ = error
            rest = pause if may_repeat(send.method, error) else None
        else:
            if response.is_success:
                return response
            failure = refused = read_error(response)
            asked = pause_asked(send.method, refused)
            rest = None if pause is None or asked is None else max(pause, asked)
        if rest is None or time.monotonic() + rest > until:
            raise failure
        log.info("%s %s%s again in %.1f s", send.method, server.url, send.path, rest)
        yield Pause(rest)
    raise AssertionError("the last try returns or raises")


def as_json(body: Any) -> bytes:
    """The content of a request. Raises InvalidInput."""
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the request cannot be written as JSON: {error}") from error


def reason(error: httpx2.TransportError) -> str:
    """Why no answer came."""
    if isinstance(error, httpx2.TimeoutException):
        return f"timed out ({type(error).__name__})"
    return str(error) or type(error).__name__
