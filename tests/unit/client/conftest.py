"""A server that does as it is told, and clients that do not really pause."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
from anyio.from_thread import start_blocking_portal

from graddx import AsyncClient, Client
from tests.unit.client.awaited import Awaited
from tests.unit.client.scripted_server import ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture(params=["blocking", "awaited"])
def client(request: pytest.FixtureRequest, server: ScriptedServer) -> Iterator[Client]:
    """Both, in turn."""
    if request.param == "blocking":
        with Client(server.url, timeout=5) as client:
            yield client
        return
    with start_blocking_portal() as portal:
        awaited = AsyncClient(server.url, timeout=5)
        yield cast(Client, Awaited(awaited, portal))
        portal.call(awaited.close)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were to be paused, in turn."""
    taken: list[float] = []

    async def sleep(seconds: float) -> None:
        taken.append(seconds)

    monkeypatch.setattr("graddx.transport.time.sleep", taken.append)
    monkeypatch.setattr("graddx.async_transport._sleep", sleep)
    return taken
