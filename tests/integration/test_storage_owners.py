"""What is one owner's does not exist for another, on any route and both databases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.domain.api_keys import LOCAL, Scope
from service.domain.errors import ArtifactNotFound, Unauthorized
from service.storage.session import Database
from tests.integration.front_door import SPEC, FrontDoor, digest, form, torchscript

MODEL = torchscript()
FILE_ID = f"sha256:{digest(MODEL)}"
SPEC_BODY = {"model": SPEC, "labels": {"branch": "main"}}
READING = {Scope.READ}


@pytest.fixture
def house(database: Database, tmp_path: Path) -> FrontDoor:
    return FrontDoor(database, tmp_path)


@pytest.fixture
def alice(house: FrontDoor) -> TestClient:
    return house.client(house.key_for("alice"))


@pytest.fixture
def bob(house: FrontDoor) -> TestClient:
    return house.client(house.key_for("bob"))


def things(document: dict[str, Any], **ids: str) -> Iterator[tuple[str, str]]:
    """Method and address of every call that names something of somebody's."""
    for path, operations in document["paths"].items():
        names = re.findall(r"{(\w+)}", path)
        if not path.startswith("/v1/") or not names:
            continue
        # A new kind of id has to be given an example here.
        address = path.format(**{name: ids[name] for name in names})
        yield from ((method.upper(), address) for method in operations)


def test_nothing_of_another_owner_is_there_on_any_route(
    house: FrontDoor, alice: TestClient, bob: TestClient
) -> None:
    final = alice.post("/v1/analyses", json=SPEC_BODY).json()["id"]
    house.finish()
    waiting = alice.post("/v1/analyses", **form(MODEL)).json()["id"]
    asked = set()
    for analysis_id in (final, waiting):
        ids = {
            "analysis_id": analysis_id,
            "other": analysis_id,
            "artifact_id": FILE_ID,
            "chart_file": "gradient-flow.svg",
        }
        for method, address in things(bob.get("/openapi.json").json(), **ids):
            theirs = bob.request(method, address)
            nobodys = bob.request(method, re.sub("[0-9a-f]{12}", "0" * 12, address))
            assert theirs.status_code == nobodys.status_code == 404, (method, address)
            told, of_nobody = theirs.json(), nobodys.json()
            assert told["code"] == of_nobody["code"]
            assert re.sub("[0-9a-f]", "0", told["detail"]) == re.sub(
                "[0-9a-f]", "0", of_nobody["detail"]
            )
            asked.add((method, address))
    assert len(asked) >= 8
    # and it is still as it was
    assert alice.get(f"/v1/analyses/{final}").json()["status"] == "succeeded"
    assert alice.get(f"/v1/analyses/{waiting}").json()["status"] == "queued"
    assert alice.get(f"/v1/analyses/{final}/layers").json()["layers"]
    assert alice.get(f"/v1/artifacts/{FILE_ID}").status_code == 200


def test_a_list_shows_the_owners_own(house: FrontDoor, alice: TestClient, bob: TestClient) -> None:
    mine = alice.post("/v1/analyses", json=SPEC_BODY).json()["id"]
    house.finish()
    theirs = bob.post("/v1/analyses", json=SPEC_BODY).json()["id"]
    for query in ("", "?label=branch:main", "?limit=1"):
        listed = {
            one: [item["id"] for item in client.get(f"/v1/analyses{query}").json()["items"]]
            for one, client in (("alice", alice), ("bob", bob))
        }
        assert listed == {"alice": [mine], "bob": [theirs]}
    assert bob.get("/v1/analyses?verdict=unhealthy").json()["items"] == []
    sha256 = alice.get(f"/v1/analyses/{mine}").json()["model"]["sha256"]
    assert len(bob.get(f"/v1/analyses?model_sha256={sha256}").json()["items"]) == 1


def test_a_file_is_its_owners_alone(house: FrontDoor, alice: TestClient, bob: TestClient) -> None:
    assert alice.put("/v1/artifacts", content=MODEL).status_code == 201
    by_id = {"model": {"kind": "artifact", "id": FILE_ID}, "probe": {"inputs": [{"shape": [3]}]}}
    data = {"model": SPEC, "probe": {"data": FILE_ID}}
    weights = {"model": {**SPEC, "weights": FILE_ID}}
    for body in (by_id, data, weights):
        answer = bob.post("/v1/analyses", json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "artifact_not_found")
    # 201: an answer of 200 would tell that somebody has it
    assert bob.put("/v1/artifacts", content=MODEL).status_code == 201
    assert house.on_disk() == [digest(MODEL)] * 2
    assert alice.delete(f"/v1/artifacts/{FILE_ID}").status_code == 204
    assert alice.get(f"/v1/artifacts/{FILE_ID}").status_code == 404
    assert bob.get(f"/v1/artifacts/{FILE_ID}").status_code == 200
    assert house.on_disk() == [digest(MODEL)]
    assert bob.post("/v1/analyses", json=by_id).status_code == 202
    assert alice.post("/v1/analyses", json=by_id).status_code == 404
    assert house.artifacts.owned_by("bob").checked(FILE_ID).read_bytes() == MODEL
    with pytest.raises(ArtifactNotFound):
        house.artifacts.owned_by("alice").checked(FILE_ID)


def test_what_one_does_not_retain_another_keeps(
    house: FrontDoor, alice: TestClient, bob: TestClient
) -> None:
    bob.put("/v1/artifacts", content=MODEL)
    analysis = alice.post("/v1/analyses", **form(MODEL, retain="statistics")).json()["id"]
    assert len(house.on_disk()) == 2
    assert alice.delete(f"/v1/analyses/{analysis}").status_code == 202
    assert house.on_disk() == [digest(MODEL)]
    assert bob.get(f"/v1/artifacts/{FILE_ID}").status_code == 200


def test_keys_of_one_owner_share_and_one_without_write_only_looks(
    house: FrontDoor, alice: TestClient
) -> None:
    analysis = alice.post("/v1/analyses", json=SPEC_BODY).json()["id"]
    reader = house.client(house.key_for("alice", *READING))
    assert reader.get(f"/v1/analyses/{analysis}").status_code == 202
    assert reader.delete(f"/v1/analyses/{analysis}").status_code == 403


def test_what_was_asked_for_without_keys_is_the_local_owners(house: FrontDoor) -> None:
    anyone = house.client()
    analysis = anyone.post("/v1/analyses", json=SPEC_BODY).json()["id"]
    local = house.client(house.key_for(LOCAL))
    assert anyone.get(f"/v1/analyses/{analysis}").status_code == 401
    assert local.get(f"/v1/analyses/{analysis}").status_code == 202


def test_a_key_opens_until_it_is_revoked_or_expires(house: FrontDoor) -> None:
    text = house.key_for("alice")
    key_id = text.split("_")[1]
    client = house.client(text)
    assert client.get("/v1/analyses").status_code == 200
    wrong = text[:-1] + ("0" if text[-1] != "0" else "1")
    assert house.client(wrong).get("/v1/analyses").status_code == 401
    assert house.keys.revoke(key_id)
    assert not house.keys.revoke(key_id)
    assert client.get("/v1/analyses").status_code == 401
    # Closed for good: the last key's end must not open the door to everybody.
    assert house.client().get("/v1/analyses").status_code == 401
    assert house.keys.forget(key_id)
    assert house.client().get("/v1/analyses").status_code == 200


def test_only_digests_of_secrets_are_stored(house: FrontDoor, database: Database) -> None:
    text = house.key_for("alice", Scope.READ)
    (key,) = house.keys.list()
    assert key == house.keys.find(key.id)
    assert key.scopes == READING
    assert digest(text.split("_")[2].encode()) == key.secret_sha256
    with database.read() as connection:
        stored = str(connection.exec_driver_sql("SELECT * FROM api_keys").all())
    assert text.split("_")[2] not in stored


def test_a_server_that_strangers_reach_is_never_open(database: Database, tmp_path: Path) -> None:
    house = FrontDoor(database, tmp_path, open_without_keys=False)
    with pytest.raises(Unauthorized):
        house.use_cases.caller(None)
    assert house.client().get("/v1/analyses").status_code == 401


@pytest.mark.parametrize("owner", ["", "..", "a/b", "A", "x" * 65, "a\n"])
def test_no_owner_is_another_place(house: FrontDoor, owner: str) -> None:
    with pytest.raises(ValueError, match="names no owner"):
        house.artifacts.owned_by(owner)
