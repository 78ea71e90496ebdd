"""The same question again is answered from the store, to the same owner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.domain.analysis import Failure, Status
from service.domain.errors import ModelRaised
from service.ports import Filter
from service.storage.session import Database
from tests.integration.front_door import INPUTS, SPEC, FrontDoor, digest, form, torchscript

MODEL = torchscript()
OWN = ("id", "labels", "cached", "created_at", "started_at", "finished_at")
"""What a cached answer has of its own."""


@pytest.fixture
def house(database: Database, tmp_path: Path) -> FrontDoor:
    return FrontDoor(database, tmp_path)


def posted(house: FrontDoor, key: str | None = None, **more: Any) -> Any:
    return house.client(key).post("/v1/analyses", json={"model": SPEC, **more})


def test_an_identical_request_is_a_new_analysis_with_the_same_answer(house: FrontDoor) -> None:
    first_id = posted(house, labels={"commit": "1"}).json()["id"]
    house.finish()
    client = house.client()
    first = client.get(f"/v1/analyses/{first_id}").json()
    again = posted(house, labels={"commit": "2"})
    assert again.status_code == 200
    second = again.json()
    assert second["id"] != first_id
    assert (second["cached"], first["cached"]) == (True, False)
    assert second["labels"] == {"commit": "2"}
    assert second["started_at"] == second["finished_at"] == second["created_at"]
    for name in first.keys() - OWN:
        assert second[name] == first[name], name
    assert len(house.dispatcher.told) == 1
    assert client.delete(f"/v1/analyses/{first_id}").status_code == 204
    kept = client.get(f"/v1/analyses/{second['id']}").json()
    assert kept == second
    layers = client.get(f"/v1/analyses/{second['id']}/layers").json()["layers"]
    assert layers == first["diagnosis"]["layers"]
    labelled = client.get("/v1/analyses?label=commit:2").json()["items"]
    assert [one["id"] for one in labelled] == [second["id"]]
    third = posted(house)  # of a copy
    assert third.json()["cached"] is True


@pytest.mark.parametrize(
    "difference",
    [
        {"fresh": True},
        {"probe": {"seed": 1}},
        {"fail_on": "never"},
        {"allowed_changes": ["initializer"]},
        {"ignore": [{"code": "poor_initialization"}]},
    ],
)
def test_what_could_change_the_answer_is_measured(
    house: FrontDoor, difference: dict[str, Any]
) -> None:
    posted(house)
    house.finish()
    assert posted(house, **difference).status_code == 202
    assert posted(house, probe={"seed": 0}, retain="statistics", fail_on="error").status_code == 200


def test_only_what_succeeded_answers(house: FrontDoor) -> None:
    posted(house)
    claim = house.analyses.claim("w1", lease_seconds=60)
    assert claim is not None
    assert posted(house).status_code == 202  # still running
    house.analyses.fail(claim, Failure(ModelRaised.code, ModelRaised.title, "no"))
    assert posted(house).status_code == 202
    assert {one.status for one in _all(house)} == {Status.FAILED, Status.QUEUED}


def test_another_owner_waits_for_an_answer_of_its_own(house: FrontDoor) -> None:
    alice, bob = house.key_for("alice"), house.key_for("bob")
    posted(house, alice)
    house.finish()
    assert posted(house, bob).status_code == 202
    assert posted(house, alice).status_code == 200


def test_a_later_engine_measures_again(
    house: FrontDoor, database: Database, tmp_path: Path
) -> None:
    posted(house)
    house.finish()
    house.use_cases._version = "2"
    assert posted(house).status_code == 202


def test_files_of_a_cached_answer_are_kept_as_asked(house: FrontDoor) -> None:
    client = house.client()
    client.post("/v1/analyses", **form(MODEL, retain="statistics"))
    house.finish()
    house.artifacts.discard()
    assert house.on_disk() == []
    again = client.post("/v1/analyses", **form(MODEL, retain="statistics"))
    assert (again.status_code, again.json()["cached"]) == (200, True)
    assert house.on_disk() == []
    kept = client.post("/v1/analyses", **form(MODEL))
    assert (kept.status_code, kept.json()["cached"]) == (200, True)
    assert house.on_disk() == [digest(MODEL)]
    model = {"kind": "artifact", "id": f"sha256:{digest(MODEL)}"}
    by_id = client.post("/v1/analyses", json={"model": model, "probe": INPUTS})
    assert by_id.status_code == 200


def test_a_cached_answer_has_its_idempotency_key(house: FrontDoor) -> None:
    posted(house)
    house.finish()
    body, key = {"model": SPEC}, {"idempotency-key": "k"}
    ids = {house.client().post("/v1/analyses", json=body, headers=key).json()["id"] for _ in "12"}
    assert len(ids) == 1
    gate = house.client().post("/v1/analyses?gate=true", json=body, headers=key)
    assert (gate.status_code, {gate.json()["id"]}) == (417, ids)


def _all(house: FrontDoor) -> Any:
    return house.analyses.list(Filter(), limit=100, cursor=None).items
