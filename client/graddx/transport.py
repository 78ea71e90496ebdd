"""One HTTP call: address, API key, retries, and an exception for all that is not success."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2

from graddx.errors import ConnectionFailed, GraddxError, InvalidInput
from graddx.reading import read_error
from graddx.retries import Retries, may_repeat, pause_asked

log = logging.getLogger("graddx")

CONNECT_SECONDS = 5.0
"""Longest wait for a connection."""
IDLE_SECONDS = 2.0
"""A kept connection is closed after this, before the server (5 s) closes it under a call."""

Params = Mapping[str, str | int | float | Sequence[str]]


class Transport:
    """Calls one server."""

    def __init__(
        self, url: str, api_key: str | None, timeout: float, retries: Retries, agent: str
    ) -> None:
        self.url = _checked(url)
        self._timeout = timeout
        self._retries = retries
        authorization = {"Authorization": f"Bearer {_sendable(api_key)}"} if api_key else {}
        self._http = httpx2.Client(
            headers={"User-Agent": agent, **authorization},
            timeout=httpx2.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
            limits=httpx2.Limits(keepalive_expiry=IDLE_SECONDS),
        )

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Any = None,
        file: Path | None = None,
        into: Path | None = None,
        accept: str | None = None,
        hold: float = 0.0,
        patience: int = 1,
        until: float = math.inf,
    ) -> httpx2.Response:
        """The answer, when it is a success.

        `body` is sent as JSON, `file` streamed; what comes back, in the media type `accept`, is
        streamed `into` a file, where one is given. The server may hold the call for `hold` seconds;
        `patience` multiplies the repetitions, of which none begins after `until` (a monotonic
        time). Raises ApiError, ConnectionFailed, InvalidInput."""
        content = None if body is None else _json(body)
        url = f"{self.url}{path}"
        for pause in Retries(self._retries.times * patience).pauses():
            try:
                response = self._once(method, url, params, content, file, into, accept, hold)
            except httpx2.TransportError as error:
                failure: GraddxError = ConnectionFailed(self.url, _reason(error))
                failure.__cause__ = error
                rest = pause if may_repeat(method, error) else None
            else:
                if response.is_success:
                    return response
                failure = refused = read_error(response)
                asked = pause_asked(method, refused)
                rest = None if pause is None or asked is None else max(pause, asked)
            if rest is None or time.monotonic() + rest > until:
                raise failure
            log.info("%s %s again in %.1f s", method, url, rest)
            time.sleep(rest)
        raise AssertionError("the last try returns or raises")

    def lines(self, path: str, *, accept: str, silence: float) -> Iterator[str]:
        """The lines of a long answer as they come, asked for once. `silence`: seconds without any
        after which it is given up. Raises ApiError, ConnectionFailed."""
        timeout = httpx2.Timeout(
            self._timeout, connect=min(self._timeout, CONNECT_SECONDS), read=silence
        )
        try:
            with self._http.stream(
                "GET", f"{self.url}{path}", headers={"Accept": accept}, timeout=timeout
            ) as response:
                if not response.is_success:
                    response.read()
                    raise read_error(response)
                yield from response.iter_lines()
        except httpx2.TransportError as error:
            raise ConnectionFailed(self.url, _reason(error)) from error

    def _once(
        self,
        method: str,
        url: str,
        params: Params | None,
        content: bytes | None,
        file: Path | None,
        into: Path | None,
        accept: str | None,
        hold: float,
    ) -> httpx2.Response:
        with ExitStack() as opened:
            stream = opened.enter_context(file.open("rb")) if file else None
            kind = "application/octet-stream" if file else "application/json"
            headers = {"Content-Type": kind} if stream or content else {}
            headers |= {"Accept": accept} if accept else {}
            timeout = httpx2.Timeout(
                self._timeout,
                connect=min(self._timeout, CONNECT_SECONDS),
                read=self._timeout + hold,
            )
            response = opened.enter_context(
                self._http.stream(
                    method,
                    url,
                    params=params,
                    content=stream or content,
                    headers=headers,
                    timeout=timeout,
                )
            )
            if into is None or not response.is_success:
                response.read()
            else:
                with into.open("wb") as target:
                    target.writelines(response.iter_bytes())
            return response


def _checked(url: str) -> str:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise InvalidInput(f"{url!r} is not an address: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidInput(f"{url!r} is not an address: it must start with http:// or https://")
    return url.rstrip("/")


def _sendable(api_key: str) -> str:
    """Never tells what it was given: it may be a secret."""
    key = api_key.strip()
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise InvalidInput("the API key holds characters that no key has")
    return key


def _json(body: Any) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the request cannot be written as JSON: {error}") from error


def _reason(error: httpx2.TransportError) -> str:
    if isinstance(error, httpx2.TimeoutException):
        return f"timed out ({type(error).__name__})"
    return str(error) or type(error).__name__
