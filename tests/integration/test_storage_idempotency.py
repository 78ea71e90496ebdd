"""One Idempotency-Key, one analysis: again, at once, and after what it stood for has gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import func, select

from service.domain.errors import IdempotencyConflict, IdempotencyInFlight, QueueFull
from service.domain.request import AnalysisRequest, ModelRequest
from service.storage import submissions
from service.storage.session import Database
from service.storage.tables import analyses, idempotency_keys, labels, metadata, uses
from tests.integration.front_door import INPUTS, SPEC, FrontDoor, digest, form, torchscript

AT_ONCE = 20
KEY = {"idempotency-key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
MODEL = torchscript()
BODY = {"model": SPEC, "labels": {"branch": "main"}}


def asked(**labels: str) -> AnalysisRequest:
    spec = {name: value for name, value in SPEC.items() if name != "kind"}
    return AnalysisRequest(ModelRequest("spec", spec=spec), labels=labels)


@pytest.fixture
def house(database: Database, tmp_path: Path) -> FrontDoor:
    return FrontDoor(database, tmp_path)


def stored(database: Database) -> dict[str, int]:
    with database.read() as connection:
        return {
            table.name: connection.scalar(select(func.count()).select_from(table)) or 0
            for table in (analyses, labels, uses, idempotency_keys)
        }


def test_twenty_at_once_make_one_analysis(house: FrontDoor, database: Database) -> None:
    barrier = threading.Barrier(AT_ONCE)

    def submit(_: int) -> tuple[str, bool]:
        barrier.wait()
        done = house.use_cases.submit_once(asked(branch="main"), "k")
        return done.analysis.id, done.repeated

    with ThreadPoolExecutor(AT_ONCE) as pool:
        came_of = [*pool.map(submit, range(AT_ONCE))]
    assert len({analysis_id for analysis_id, _ in came_of}) == 1
    assert sorted(repeated for _, repeated in came_of) == [False, *[True] * (AT_ONCE - 1)]
    assert stored(database) == {"analyses": 1, "labels": 1, "uses": 0, "idempotency_keys": 1}
    assert len(house.dispatcher.told) == 1


def test_twenty_uploads_at_once_make_one_analysis(house: FrontDoor, database: Database) -> None:
    barrier = threading.Barrier(AT_ONCE)

    def post(_: int) -> Any:
        barrier.wait()
        return client.post("/v1/analyses", headers=KEY, **form(MODEL, retain="statistics"))

    with house.client() as client, ThreadPoolExecutor(AT_ONCE) as pool:
        answers = [*pool.map(post, range(AT_ONCE))]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert stored(database) == {"analyses": 1, "labels": 0, "uses": 1, "idempotency_keys": 1}
    assert house.on_disk() == [digest(MODEL)]


def test_the_same_again_is_the_first_in_any_state(house: FrontDoor) -> None:
    client = house.client()
    first = client.post("/v1/analyses", json=BODY, headers=KEY)
    again = client.post("/v1/analyses", json=BODY, headers=KEY)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.headers["location"] == again.headers["location"]
    house.finish()
    done = client.post("/v1/analyses", json=BODY, headers=KEY)
    assert (done.status_code, done.json()["id"]) == (200, first.json()["id"])
    gate = client.post("/v1/analyses?gate=true", json=BODY, headers=KEY)
    assert (gate.status_code, gate.json()["id"]) == (417, first.json()["id"])
    assert client.post("/v1/analyses", json=BODY).json()["id"] != first.json()["id"]


def test_another_request_with_the_same_key_is_refused(house: FrontDoor) -> None:
    client = house.client()
    client.post("/v1/analyses", json=BODY, headers=KEY)
    for other in ({**BODY, "labels": {}}, {**BODY, "fresh": True}, {**BODY, "fail_on": "never"}):
        answer = client.post("/v1/analyses", json=other, headers=KEY)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_conflict")
    upload = client.post("/v1/analyses", headers=KEY, **form(MODEL, retain="statistics"))
    assert upload.status_code == 422
    assert house.on_disk() == []


def test_what_is_meant_counts_not_how_it_is_written(house: FrontDoor) -> None:
    client = house.client()
    first = client.post("/v1/analyses", headers=KEY, **form(MODEL))
    by_id = {
        "probe": {**INPUTS, "seeds": 3},
        "model": {"id": f"sha256:{digest(MODEL)}", "kind": "artifact"},
        "fail_on": "error",
    }
    again = client.post("/v1/analyses", json=by_id, headers=KEY)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    other = client.post("/v1/analyses", headers=KEY, **form(torchscript(b"y")))
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")


def test_a_file_that_the_first_one_gave_up_is_not_needed_again(house: FrontDoor) -> None:
    client = house.client()
    client.put("/v1/artifacts", content=MODEL)
    model = {"kind": "artifact", "id": f"sha256:{digest(MODEL)}"}
    body = {"model": model, "probe": INPUTS, "retain": "statistics"}
    first = client.post("/v1/analyses", json=body, headers=KEY).json()["id"]
    house.finish()
    client.get(f"/v1/analyses/{first}")
    assert house.on_disk() == []
    again = client.post("/v1/analyses", json=body, headers=KEY)
    assert (again.status_code, again.json()["id"]) == (200, first)
    upload = client.post("/v1/analyses", headers=KEY, **form(MODEL, retain="statistics"))
    assert (upload.status_code, upload.json()["id"]) == (200, first)
    assert house.on_disk() == []


def test_a_full_queue_still_tells_what_was_made_before(database: Database, tmp_path: Path) -> None:
    house = FrontDoor(database, tmp_path, queue_limit=1)
    first = house.use_cases.submit_once(asked(), "k")
    with pytest.raises(QueueFull):
        house.use_cases.submit_once(asked(), "other")
    assert house.use_cases.submit_once(asked(), "k").analysis == first.analysis
    answer = house.client().post("/v1/analyses", json=BODY)
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_full")
    assert int(answer.headers["retry-after"]) > 0
    house.finish()
    assert not house.use_cases.submit_once(asked(), "other").repeated


def test_the_key_goes_with_its_analysis_and_with_age(house: FrontDoor, database: Database) -> None:
    first = house.use_cases.submit_once(asked(), "k").analysis.id
    house.finish()
    house.use_cases.remove(first)
    assert stored(database)["idempotency_keys"] == 0
    second = house.use_cases.submit_once(asked(), "k").analysis.id
    assert second != first
    now = house.clock.now()
    assert house.analyses.forget_keys(now - timedelta(hours=1)) == 0
    with pytest.raises(IdempotencyConflict):
        house.use_cases.submit_once(asked(a="b"), "k")
    assert house.analyses.forget_keys(now + timedelta(seconds=1)) == 1
    assert house.use_cases.submit_once(asked(a="b"), "k").analysis.id != second
    assert house.use_cases.status(second)


def test_keys_of_two_owners_are_two(house: FrontDoor) -> None:
    alice, bob = (house.client(house.key_for(one)) for one in ("alice", "bob"))
    ids = [one.post("/v1/analyses", json=BODY, headers=KEY).json()["id"] for one in (alice, bob)]
    assert len({*ids}) == 2
    other = bob.post("/v1/analyses", json={"model": SPEC}, headers=KEY)
    assert other.status_code == 422


@pytest.fixture
def held(postgresql_schema: str, tmp_path: Path) -> Iterator[tuple[FrontDoor, Any]]:
    """A house whose first request with key `k` is in a transaction that does not end."""
    with psycopg.connect(postgresql_schema) as connection:
        connection.execute(f"TRUNCATE {', '.join(metadata.tables)}".encode())
    database = Database(postgresql_schema)
    house = FrontDoor(database, tmp_path)
    made = house.use_cases.submit(asked()).id
    with psycopg.connect(postgresql_schema) as connection:
        connection.execute(
            "INSERT INTO idempotency_keys VALUES ('local', 'k', 'd', %s, now())", [made]
        )
        yield house, connection
        connection.rollback()
    database.close()


def test_a_first_request_that_does_not_end_is_409(
    held: tuple[FrontDoor, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submissions, "LOCK_SECONDS", 0.2)
    house, connection = held
    with pytest.raises(IdempotencyInFlight):
        house.use_cases.submit_once(asked(), "k")
    answer = house.client().post("/v1/analyses", json=BODY, headers={"idempotency-key": "k"})
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_in_flight")
    assert answer.headers["retry-after"] == "1"
    connection.rollback()
    assert not house.use_cases.submit_once(asked(), "k").repeated
