"""?wait= and Prefer: wait=, and what the gate makes of the outcome."""

from __future__ import annotations

import json
import time
from typing import Any

import anyio
import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.waiting import FIRST_PAUSE, LAST_PAUSE, pause_after
from service.config import Settings
from service.domain.analysis import Status
from service.domain.findings import Verdict
from tests.unit.api.bodies import body, pointers
from tests.unit.api.fake_engine import FakeEngine, cancel, fail, fall_ill, succeed


def test_wait_holds_the_call_until_it_is_final(client: TestClient, engine: FakeEngine) -> None:
    engine.finish_after_looks = 4
    answer = client.post("/v1/analyses?wait=20", json=body())
    assert answer.status_code == 200
    assert answer.json()["status"] == "succeeded"
    assert engine.looks == 4
    assert "preference-applied" not in answer.headers


def test_wait_gives_up_when_the_time_is_over(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome = None
    began = time.monotonic()
    answer = client.post("/v1/analyses?wait=0.3", json=body())
    assert 0.3 <= time.monotonic() - began < 3
    assert answer.status_code == 202
    assert answer.json()["queue_position"] == 0
    assert 3 < engine.looks < 50


@pytest.mark.parametrize("took", [0.02, 0.15, 0.3, 1.0, 3.0])
def test_an_answer_is_seen_within_a_tenth_of_its_own_time(took: float) -> None:
    now = 0.0
    while now < took:
        now += pause_after(now)
    assert now - took <= max(took / 10, FIRST_PAUSE)


def test_long_waits_are_cheap() -> None:
    now, looks = 0.0, 0
    while now < 60.0:
        now, looks = now + pause_after(now), looks + 1
    assert looks < 7 * 60
    assert pause_after(300.0) == LAST_PAUSE


def test_prefer_wait_is_applied_and_echoed(client: TestClient, engine: FakeEngine) -> None:
    engine.finish_after_looks = 2
    headers = {"prefer": "respond-async, wait=10"}
    answer = client.post("/v1/analyses", json=body(), headers=headers)
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=10"


def test_the_query_goes_before_the_header(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome = None
    headers = {"prefer": "wait=100"}
    answer = client.post("/v1/analyses?wait=0", json=body(), headers=headers)
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


@pytest.mark.parametrize("wait", ["301", "-1", "nan", "inf", "soon"])
def test_a_wait_out_of_range_is_422(client: TestClient, engine: FakeEngine, wait: str) -> None:
    answer = client.post(f"/v1/analyses?wait={wait}", json=body())
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "wait"
    assert engine.submitted == []


def test_a_preferred_wait_out_of_range_is_422(client: TestClient, engine: FakeEngine) -> None:
    answer = client.post("/v1/analyses", json=body(), headers={"prefer": "wait=301"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "Prefer"
    assert engine.submitted == []


def test_a_caller_who_goes_ends_the_wait(engine: FakeEngine) -> None:
    engine.outcome = None
    began = time.monotonic()
    _post_and_go(engine, body())
    assert time.monotonic() - began < 10
    assert engine.looks == 1


def test_a_final_answer_that_nobody_took_is_not_given(engine: FakeEngine) -> None:
    engine.finish_after_looks = 1
    _post_and_go(engine, body(retain="nothing"))
    assert [analysis.status.final for analysis in engine.analyses.values()] == [True]


def _post_and_go(engine: FakeEngine, request: dict[str, Any]) -> None:
    content = json.dumps(request).encode()
    told: list[dict[str, Any]] = [
        {"type": "http.request", "body": content, "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return told.pop(0) if len(told) > 1 else told[0]

    async def send(_: Any) -> None:
        return

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/analyses",
        "query_string": b"wait=100",
        "headers": [(b"content-type", b"application/json"), (b"host", b"testserver")],
    }
    anyio.run(create_app(engine, Settings()), scope, receive, send)


def test_reading_can_wait_too(client: TestClient, engine: FakeEngine) -> None:
    engine.finish_after_looks = 3
    address = client.post("/v1/analyses", json=body()).headers["location"]
    assert client.get(address).status_code == 202
    assert client.get(f"{address}?wait=20").status_code == 200


def test_deleted_while_waiting_is_404(
    client: TestClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.outcome = None
    look = engine.status

    def vanish(analysis_id: str) -> Status:
        engine.analyses.clear()
        return look(analysis_id)

    monkeypatch.setattr(engine, "status", vanish)
    answer = client.post("/v1/analyses?wait=20", json=body())
    assert (answer.status_code, answer.json()["code"]) == (404, "analysis_not_found")


@pytest.mark.parametrize("outcome", [succeed, fall_ill, fail, cancel])
def test_without_the_gate_every_final_state_is_200(
    client: TestClient, engine: FakeEngine, outcome: Any
) -> None:
    engine.outcome, engine.finish_after_looks = outcome, 1
    assert client.post("/v1/analyses?wait=20", json=body()).status_code == 200


def test_the_gate_opens_for_what_passed(client: TestClient, engine: FakeEngine) -> None:
    engine.finish_after_looks = 3
    answer = client.post("/v1/analyses?gate=true", json=body())
    assert answer.status_code == 200
    assert answer.json()["passed"] is True


def test_the_gate_stays_shut_with_417(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome, engine.finish_after_looks = fall_ill, 1
    answer = client.post("/v1/analyses?gate=true", json=body())
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (417, "gate_failed")
    assert pointers(answer) == set()
    assert problem["summary"] == "Gradients vanish."
    assert problem["findings"][0]["code"] == "vanishing_gradient"
    assert client.get(problem["report"]).json()["id"] == problem["id"]


def test_inconclusive_does_not_pass(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome = lambda analysis: succeed(analysis, Verdict.INCONCLUSIVE)
    engine.finish_after_looks = 1
    answer = client.post("/v1/analyses?gate=true", json=body())
    assert (answer.status_code, answer.json()["verdict"]) == (417, "inconclusive")


def test_the_gate_says_504_when_the_wait_ran_out(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome = None
    answer = client.post("/v1/analyses?gate=true&wait=0.05", json=body())
    assert (answer.status_code, answer.json()["code"]) == (504, "not_finished")
    assert answer.headers["location"] == answer.json()["report"]
    engine.outcome, engine.finish_after_looks = succeed, 1
    assert client.get(f"{answer.json()['report']}?gate=true").status_code == 200


def test_the_gate_says_502_when_the_analysis_failed(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome, engine.finish_after_looks = fail, 1
    answer = client.post("/v1/analyses?gate=true", json=body())
    assert (answer.status_code, answer.json()["code"]) == (502, "analysis_failed")
    assert answer.json()["failure"]["code"] == "model_raised"
    engine.outcome = cancel
    answer = client.post("/v1/analyses?gate=true", json=body())
    assert (answer.status_code, answer.json()["failure"]) == (502, None)


@pytest.mark.parametrize("outcome", [succeed, fall_ill, fail, cancel])
@pytest.mark.parametrize("query", ["", "?gate=true"])
def test_what_retains_nothing_is_gone_once_its_final_answer_was_given(
    client: TestClient, engine: FakeEngine, outcome: Any, query: str
) -> None:
    engine.outcome, engine.finish_after_looks = None, 1
    address = client.post("/v1/analyses", json=body(retain="nothing")).headers["location"]
    assert client.get(f"{address}?wait=0").status_code == 202
    engine.outcome = outcome
    assert client.get(f"{address}/layers").status_code == 200  # looks at the status
    assert client.get(f"{address}{query}").json()["id"] == "a1"
    assert client.get(address).status_code == 404

    engine.looks = 0
    waited = client.post("/v1/analyses?wait=20", json=body(retain="nothing")).json()
    assert client.get(f"/v1/analyses/{waited['id']}").status_code == 404
    kept = client.post("/v1/analyses?wait=20", json=body(retain="statistics")).json()
    assert client.get(f"/v1/analyses/{kept['id']}").status_code == 200


@pytest.mark.parametrize("query", ["gat=true", "gate=maybe", "gate=true&timeout=5"])
def test_a_mistyped_gate_is_422_never_a_pass(
    client: TestClient, engine: FakeEngine, query: str
) -> None:
    assert client.post(f"/v1/analyses?{query}", json=body()).status_code == 422
    assert engine.submitted == []
