"""Who is let in, by key, scope and count; and that no secret comes out again."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from io import StringIO
from typing import Any

import pytest
import structlog
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from starlette.routing import BaseRoute

from api.app import create_app
from api.doorkeeper import is_open
from api.rate_limits import RateLimits, address_of
from api.redaction import redact_event, redact_server_logs
from service.config import Settings
from service.domain.api_keys import Caller, Scope
from tests.unit.api.bodies import body
from tests.unit.api.fake_engine import FakeEngine

SECRET = "5e" * 32
KEY = f"gdx_0123456789ab_{SECRET}"
READER = f"gdx_00000000000a_{SECRET}"
SCRAPER = f"gdx_00000000000b_{SECRET}"
CALLERS = {
    KEY: Caller("a", frozenset({Scope.READ, Scope.WRITE}), "0123456789ab"),
    READER: Caller("a", frozenset({Scope.READ}), "00000000000a"),
    SCRAPER: Caller("a", frozenset({Scope.METRICS}), "00000000000b"),
}


def with_key(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def locked(engine: FakeEngine) -> FakeEngine:
    engine.callers = CALLERS
    return engine


def calls(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path of everything this app answers."""
    for path, operations in app.openapi()["paths"].items():
        yield from ((method.upper(), path) for method in operations)
    for route in flat(app.routes):
        yield from ((method, route.path) for method in route.methods or ())


def flat(routes: Iterable[BaseRoute]) -> Iterator[APIRoute]:
    """Those of included routers too."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        if (included := getattr(route, "original_router", None)) is not None:
            yield from flat(included.routes)


def test_everything_but_health_and_docs_needs_a_key(client: TestClient, locked: FakeEngine) -> None:
    app: Any = client.app
    asked = {(method, re.sub(r"[{}]", "", path)) for method, path in calls(app)}
    opened = set()
    for method, path in asked:
        answer = client.request(method, path, follow_redirects=False)
        if answer.status_code != 401:
            opened.add(path)
            continue
        assert answer.json()["code"] == "unauthorized", (method, path)
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert opened == {"/", "/livez", "/readyz", "/docs", "/guide"}
    assert client.get("/openapi.json").status_code == 200
    assert client.get("/v1/nothing").status_code == 401
    assert locked.submitted == []


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {KEY}",
        KEY,
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY}0",
        "Bearer ü",
    ],
)
def test_what_is_no_good_key_is_401(client: TestClient, locked: FakeEngine, value: str) -> None:
    answer = client.get("/v1/analyses", headers={b"authorization": value.encode("latin-1")})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


def test_a_key_is_let_in_and_acts_for_its_owner(client: TestClient, locked: FakeEngine) -> None:
    for kind in ("Bearer", "bearer"):
        headers = {"authorization": f"{kind} {KEY}"}
        assert client.post("/v1/analyses", json=body(), headers=headers).status_code == 202
    assert locked.submitted == []
    assert len(locked.others["a"].submitted) == 2


@pytest.mark.parametrize(
    ("key", "method", "path", "allowed"),
    [
        (READER, "GET", "/v1/analyses", True),
        (READER, "GET", "/v1/catalog", True),
        (READER, "POST", "/v1/analyses", False),
        (READER, "PUT", "/v1/artifacts", False),
        (READER, "DELETE", "/v1/analyses/a1", False),
        (READER, "GET", "/metrics", False),
        (KEY, "GET", "/metrics", False),
        (SCRAPER, "GET", "/metrics", True),
        (SCRAPER, "GET", "/v1/analyses", False),
    ],
)
def test_scopes(
    client: TestClient, locked: FakeEngine, key: str, method: str, path: str, allowed: bool
) -> None:
    answer = client.request(method, path, headers=with_key(key))
    assert (answer.status_code == 200) == allowed
    if not allowed:
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "scope" in answer.json()["detail"]


def limited(engine: FakeEngine, rate: str) -> TestClient:
    return TestClient(create_app(engine, Settings(rate_limit=rate)))


def test_one_call_too_many_is_429(engine: FakeEngine) -> None:
    client = limited(engine, "3/hour")
    left = [client.get("/v1/analyses").headers["ratelimit-remaining"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    refused = client.get("/v1/analyses")
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.headers["ratelimit-limit"] == "3"
    assert refused.headers["ratelimit-policy"] == "3;w=3600"
    assert 1 <= int(refused.headers["retry-after"]) <= 3600
    assert refused.headers["retry-after"] == refused.headers["ratelimit-reset"]
    assert client.get("/livez").status_code == 200


def test_every_key_has_a_count_of_its_own(engine: FakeEngine) -> None:
    engine.callers = CALLERS
    client = limited(engine, "2/hour")
    for key in (KEY, READER):
        answers = [client.get("/v1/analyses", headers=with_key(key)) for _ in range(3)]
        assert [one.status_code for one in answers] == [200, 200, 429]
    wrong = [client.get("/v1/analyses", headers=with_key("x")).status_code for _ in range(3)]
    assert wrong == [401, 401, 429]


def test_the_window_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    limits = RateLimits("2/second")
    assert [limits.count("a").allowed for _ in range(3)] == [True, True, False]
    assert limits.count("b").allowed
    now += 3
    assert limits.count("a").allowed


def test_one_network_of_ipv6_is_one_caller() -> None:
    assert address_of("2001:db8::1") == address_of("2001:db8::ffff")
    assert address_of("2001:db8::1") != address_of("2001:db8:0:1::1")
    assert address_of("192.0.2.1") != address_of("192.0.2.2")
    assert address_of(None) == address_of(None)


def test_is_open_is_told_by_whole_paths() -> None:
    assert is_open("/docs/assets/swagger-ui.css")
    assert not is_open("/docsx")
    assert not is_open("/v1/analyses")


def test_a_key_that_strays_is_not_told_again(
    client: TestClient, locked: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    spec = {"kind": "spec", "input": {"shape": [4]}, "layers": [{"type": KEY}]}
    asked: list[Any] = [
        client.get("/v1/analyses", headers=with_key(KEY + "0")),
        client.get(f"/v1/analyses?api_key={KEY}", headers=with_key(KEY)),
        client.get(f"/v1/analyses?status={KEY}", headers=with_key(KEY)),
        client.get(f"/v1/analyses/{KEY}", headers=with_key(KEY)),
        client.get("/v1/analyses", headers={**with_key(KEY), "x-request-id": KEY}),
        client.post("/v1/analyses", json=body(model=spec), headers=with_key(KEY)),
        client.post("/v1/analyses", json={KEY: 1}, headers=with_key(KEY)),
    ]
    for answer in asked:
        assert SECRET not in answer.text
        assert SECRET not in str(answer.headers)
    assert SECRET not in caplog.text


def test_no_secret_reaches_a_log(caplog: pytest.LogCaptureFixture) -> None:
    redact_server_logs()
    access = logging.getLogger("uvicorn.access")
    with caplog.at_level(logging.INFO, logger="uvicorn.access"):
        line = '%s - "%s %s HTTP/%s" %d'
        access.info(line, "127.0.0.1:1", "GET", f"/v1/analyses?key={KEY}", "1.1", 200)
    assert "gdx_0123456789ab_…" in caplog.text
    assert SECRET not in caplog.text
    written = StringIO()
    log = structlog.wrap_logger(
        structlog.PrintLogger(written),
        processors=[
            structlog.processors.format_exc_info,
            redact_event,
            lambda _logger, _method, event: str(event),
        ],
    )
    try:
        raise RuntimeError(f"no such key {KEY}")
    except RuntimeError:
        log.exception("failed", path=f"/{KEY}")
    assert SECRET not in written.getvalue()
    assert "gdx_0123456789ab_…" in written.getvalue()
