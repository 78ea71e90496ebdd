"""Two analyses compared, and a layer followed over many."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.domain.api_keys import Caller, Scope
from tests.unit.api.bodies import body
from tests.unit.api.fake_engine import FakeEngine, fall_ill, succeed

HISTORY = "/v1/layers/history?layer=fc1&statistic=gradient.gain"


def made(client: TestClient, **more: Any) -> str:
    answer = client.post("/v1/analyses?wait=0", json=body(**more))
    return str(answer.json()["id"])


def test_a_comparison_has_both_sides(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome = succeed
    before = made(client, labels={"branch": "main"})
    engine.outcome = fall_ill
    after = made(client)
    told = client.get(f"/v1/analyses/{before}/compare/{after}").json()
    assert (told["before"]["id"], told["after"]["id"]) == (before, after)
    assert (told["before"]["verdict"], told["after"]["verdict"]) == ("healthy", "unhealthy")
    assert told["before"]["labels"] == {"branch": "main"}
    assert [one["code"] for one in told["appeared"]] == ["vanishing_gradient"]
    assert told["appeared"][0]["evidence"]["profile"] == [1.0, None]
    (layer,) = told["layers"]
    gain = next(one for one in layer["statistics"] if one["statistic"] == "gradient.gain")
    assert gain["before_range"] == gain["after_range"] == [0.18, 0.2]
    assert not layer["changed"]
    back = client.get(f"/v1/analyses/{after}/compare/{before}").json()
    assert [one["code"] for one in back["gone"]] == ["vanishing_gradient"]


def test_only_what_is_final_is_compared(client: TestClient, engine: FakeEngine) -> None:
    before = made(client)
    engine.outcome = None
    after = made(client)
    told = client.get(f"/v1/analyses/{before}/compare/{after}")
    assert (told.status_code, told.json()["code"]) == (409, "analysis_unfinished")
    for other in ("none", "a b", "x" * 99):
        told = client.get(f"/v1/analyses/{before}/compare/{other}")
        assert told.json()["code"] == "analysis_not_found"


def test_a_statistic_over_analyses(client: TestClient, engine: FakeEngine) -> None:
    ids = [made(client, labels={"commit": str(number)}) for number in range(3)]
    made(client, labels={"commit": "0", "branch": "other"})
    told = client.get(f"{HISTORY}&limit=2").json()
    assert (told["layer"], told["statistic"]) == ("fc1", "gradient.gain")
    first = client.get(f"{HISTORY}&label=commit:2").json()["items"]
    assert [one["analysis"] for one in first] == [ids[2]]
    assert (first[0]["value"], first[0]["low"], first[0]["high"]) == (0.19, 0.18, 0.2)
    assert first[0]["labels"] == {"commit": "2"}


def test_pages_are_linked(client: TestClient, engine: FakeEngine) -> None:
    ids = [made(client) for _ in range(5)]
    address, seen = f"{HISTORY}&limit=2", []
    while address:
        answer = client.get(address)
        seen += [one["analysis"] for one in answer.json()["items"]]
        address = answer.links.get("next", {}).get("url", "")
    assert seen == ids[::-1]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("statistic=gradient.gain", "layer"),
        ("layer=fc1", "statistic"),
        ("layer=fc1&statistic=gradient.gainz", "statistic"),
        ("layer=fc1&statistic=gradient.gain&label=x", "label"),
        ("layer=fc1&statistic=gradient.gain&limit=0", "limit"),
        ("layer=fc1&statistic=gradient.gain&more=1", "more"),
    ],
)
def test_wrong_questions_are_named(client: TestClient, query: str, parameter: str) -> None:
    told = client.get(f"/v1/layers/history?{query}")
    assert told.status_code == 422
    assert told.json()["errors"][0]["parameter"] == parameter


def test_a_number_that_is_not_finite_is_null(client: TestClient, engine: FakeEngine) -> None:
    made(client)
    where = "/v1/layers/history?layer=fc1&statistic=activation.correlation"
    (point,) = client.get(where).json()["items"]
    assert (point["value"], point["low"], point["high"]) == (None, None, None)


def test_both_are_their_owners_and_need_read(client: TestClient, engine: FakeEngine) -> None:
    one, two = made(client), made(client)
    engine.callers = {
        "gdx_other": Caller("other", frozenset(Scope), "1"),
        "gdx_write": Caller("local", frozenset({Scope.WRITE}), "2"),
    }
    other = {"authorization": "Bearer gdx_other"}
    assert client.get(f"/v1/analyses/{one}/compare/{two}", headers=other).status_code == 404
    assert client.get(HISTORY, headers=other).json()["items"] == []
    write = {"authorization": "Bearer gdx_write"}
    assert client.get(f"/v1/analyses/{one}/compare/{two}", headers=write).status_code == 403
    assert client.get(HISTORY, headers=write).status_code == 403
