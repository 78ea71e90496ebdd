"""An app around the fake engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from service.config import Settings
from tests.unit.api.fake_engine import FakeEngine


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def client(engine: FakeEngine) -> Iterator[TestClient]:
    settings = Settings(max_upload_mb=1, max_body_mb=1)
    with TestClient(create_app(engine, settings), raise_server_exceptions=True) as client:
        yield client
