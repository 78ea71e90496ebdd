"""Requests nobody would write: answered 200 or 422 with a pointer into the body, never 5xx."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from api.app import create_app
from service.config import Settings
from tests.unit.api.bodies import body
from tests.unit.api.fake_engine import FakeEngine
from tests.unit.domain.random_specs import REPEATABLE, leads_somewhere, networks, spoiled

WHOLE = body(
    probe={
        "inputs": [{"shape": [128], "dtype": "int64", "distribution": "normal", "high": 5}],
        "batch_size": "auto",
        "batches": 2,
        "seeds": 2,
        "loss": "cross_entropy",
        "precision": "float32",
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "clip_norm": None},
        "trial_steps": 0,
        "mode": "train",
        "budget_seconds": 60,
        "device": "auto",
        "seed": 0,
    },
    allowed_changes=["initializer"],
    ignore=[{"code": "poor_initialization", "layers": "stem.*", "reason": "known"}],
    fail_on="warning",
    baseline={"label": "branch:main"},
    labels={"repo": "r"},
)
"""A request with every field that is built."""
TAKEN = (200, 202)


@pytest.fixture(scope="module")
def front_door() -> TestClient:
    app = create_app(FakeEngine(), Settings(max_upload_mb=1, max_body_mb=1))
    return TestClient(app, raise_server_exceptions=True)


@settings(REPEATABLE, max_examples=60)
@given(network=networks())
def test_a_right_spec_is_taken(front_door: TestClient, network: Any) -> None:
    answer = _posted(front_door, {"model": {"kind": "spec", **network.spec}})
    assert answer.status_code in TAKEN, answer.json()


@settings(REPEATABLE, max_examples=150)
@given(request=spoiled(networks().map(lambda network: {"model": {"kind": "spec", **network.spec}})))
def test_a_wrong_spec_is_refused(front_door: TestClient, request: dict[str, Any]) -> None:
    _check(_posted(front_door, request), request)


@settings(REPEATABLE, max_examples=200)
@given(request=spoiled(st.just(WHOLE)))
def test_a_wrong_request_is_refused(front_door: TestClient, request: dict[str, Any]) -> None:
    _check(_posted(front_door, request), request)


def _posted(front_door: TestClient, request: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    return front_door.post("/v1/analyses?wait=0", content=json.dumps(request), headers=headers)


def _check(answer: Any, request: dict[str, Any]) -> None:
    if answer.status_code in TAKEN:
        return
    told = answer.json()
    assert answer.status_code in (422, 404, 413), told
    assert answer.headers["content-type"] == "application/problem+json"
    if answer.status_code == 422:
        assert told["errors"]
        for fault in told["errors"]:
            assert leads_somewhere(request, fault["pointer"]), fault
