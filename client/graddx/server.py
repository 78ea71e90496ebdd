"""Which server is called, as whom, and how patiently."""

from __future__ import annotations

import os
from dataclasses import dataclass

import httpx2

from graddx.errors import InvalidInput
from graddx.retries import Retries
from graddx.steps import Send, Stream

DEFAULT_URL = "http://127.0.0.1:8000"
API_KEY_VARIABLE = "GRADDX_API_KEY"
"""Where the API key is looked for."""
CONNECT_SECONDS = 5.0
"""Longest wait for a connection."""
LIMITS = httpx2.Limits(keepalive_expiry=2.0)
"""A kept connection is closed after these seconds, before the server (5 s) closes it under a
call."""


@dataclass(frozen=True, slots=True)
class Server:
    """A graddx server; what both transports are told."""

    url: str
    """Without a slash at its end."""
    headers: dict[str, str]
    """Of every call: who asks."""
    timeout: float
    """Seconds until a silent server is given up."""
    retries: Retries
    """How patient a call is."""

    def timeout_of(self, step: Send | Stream) -> httpx2.Timeout:
        """A call may be silent for as long as the server was asked to hold it."""
        read = step.silence if isinstance(step, Stream) else self.timeout + step.hold
        return httpx2.Timeout(self.timeout, connect=min(self.timeout, CONNECT_SECONDS), read=read)


def server_at(url: str, api_key: str | None, timeout: float, retries: int) -> Server:
    """`api_key` None: the one in the environment, if any. Raises InvalidInput."""
    from graddx import __version__

    key = api_key or os.environ.get(API_KEY_VARIABLE)
    authorization = {"Authorization": f"Bearer {_sendable(key)}"} if key else {}
    headers = {"User-Agent": f"graddx/{__version__}", **authorization}
    return Server(_checked(url), headers, timeout, Retries(retries))


def headers_of(send: Send) -> dict[str, str]:
    """Of one call."""
    headers = {"Accept": send.accept} if send.accept else {}
    if send.file is not None:
        # Said, so that the file is not sent in chunks: the server refuses by it what is too large.
        size = str(send.file.stat().st_size)
        return headers | {"Content-Type": "application/octet-stream", "Content-Length": size}
    return headers | ({"Content-Type": "application/json"} if send.content is not None else {})


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
