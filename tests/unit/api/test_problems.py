"""Errors of every origin leave as problems; nothing leaks."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from api.error_handlers import STATUS, InvalidParameter, NotAcceptable, UnsupportedMediaType
from service.domain import errors
from service.domain.errors import GraddxError, ProbeFailure
from tests.unit.api.bodies import body
from tests.unit.api.fake_engine import FakeEngine


def test_every_error_has_a_status() -> None:
    raised: list[type[GraddxError]] = [
        error
        for error in vars(errors).values()
        if isinstance(error, type)
        and issubclass(error, GraddxError)
        and not issubclass(error, ProbeFailure)
    ]
    assert len(raised) > 10
    own: tuple[type[GraddxError], ...] = (InvalidParameter, NotAcceptable, UnsupportedMediaType)
    assert {error.code for error in (*raised, *own)} <= STATUS.keys()


def test_a_call_keeps_the_name_it_was_given(client: TestClient) -> None:
    name = str(uuid4())
    assert client.get("/livez", headers={"x-request-id": name}).headers["x-request-id"] == name
    told = client.get("/livez", headers={"x-request-id": "mine"}).headers["x-request-id"]
    assert UUID(told).version == 4


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.QueueFull("1000 analyses are waiting"), 503),
        (errors.SandboxUnavailable("no Landlock"), 503),
        (errors.StorageFull("no room"), 507),
        (errors.ArtifactRejected("aten::save", pointer="/model"), 422),
        (errors.IdempotencyConflict("other body"), 422),
        (errors.IdempotencyInFlight("the first is being stored"), 409),
    ],
)
def test_the_table_decides(
    client: TestClient, engine: FakeEngine, error: GraddxError, status: int
) -> None:
    engine.error = error
    answer = client.post("/v1/analyses", json=body())
    problem = answer.json()
    assert answer.status_code == problem["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] == error.code
    assert problem["type"] == f"urn:graddx:problem:{error.code}"
    assert (problem["title"], problem["detail"]) == (error.title, error.detail)
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert ("retry-after" in answer.headers) == (
        error.code in ("queue_full", "storage_full", "idempotency_in_flight")
    )


@pytest.mark.parametrize("error", [RuntimeError("secret"), errors.ModelRaised("secret")])
def test_the_unexpected_is_500_and_says_nothing(
    client: TestClient,
    engine: FakeEngine,
    error: Exception,
) -> None:
    engine.error = error
    with capture_logs() as logged:
        answer = client.post("/v1/analyses", json=body())
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert [one["request_id"] for one in logged] == [answer.headers["x-request-id"]]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_unknown_paths_and_methods_are_problems(client: TestClient) -> None:
    missing = client.get("/v1/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    wrong = client.patch("/v1/analyses")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET, POST"
    for answer in (missing, wrong):
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_given_request_id_is_kept(client: TestClient) -> None:
    given = "0123456789abcdef0123456789abcdef"
    answer = client.get("/v1/nothing", headers={"x-request-id": given})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == given


@pytest.mark.parametrize("path", ["/livez", "/v1/nothing", "/docs", "/openapi.json"])
def test_security_headers_are_on_everything(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"origin": "http://testserver"}, 202),
        ({"sec-fetch-site": "same-origin", "origin": "https://proxy.example"}, 202),
        ({"sec-fetch-site": "none"}, 202),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site", "origin": "http://testserver"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
def test_pages_of_other_sites_cannot_post(
    client: TestClient, engine: FakeEngine, headers: dict[str, str], status: int
) -> None:
    files = {"model": ("net.pt", b"PK")}
    answer = client.post("/v1/analyses", files=files, headers=headers)
    assert answer.status_code == status
    assert len(engine.submitted) == (status == 202)
    if status == 403:
        assert answer.json()["code"] == "forbidden"
    assert client.get("/v1/analyses", headers=headers).status_code == 200
