"""A server that does as it is told, and clients that do not really pause."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from graddx import Client
from tests.unit.client.scripted_server import ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[Client]:
    with Client(server.url, timeout=5) as client:
        yield client


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were to be paused, in turn."""
    taken: list[float] = []
    monkeypatch.setattr("graddx.transport.time.sleep", taken.append)
    return taken
