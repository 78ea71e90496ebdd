"""Which analysis a request is compared with, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.bootstrap import _baseline
from service.domain.baseline import baseline_of
from service.domain.request import BaselineRequest
from service.storage.session import Database
from tests.integration.front_door import SPEC, FrontDoor
from tests.integration.stored_examples import report

WANTED = {"label": "branch:main"}


@pytest.fixture
def door(database: Database, tmp_path: Path) -> FrontDoor:
    return FrontDoor(database, tmp_path)


def post(door: FrontDoor, key: str | None = None, **more: Any) -> Any:
    answer = door.client(key).post("/v1/analyses?wait=0", json={"model": SPEC, **more})
    assert answer.status_code in (200, 202), answer.json()
    return answer.json()


def asked(door: FrontDoor, analysis_id: str) -> BaselineRequest | None:
    return door.analyses.get(analysis_id).request.baseline


def test_the_newest_that_succeeded_and_carries_the_label(door: FrontDoor) -> None:
    main = {"branch": "main"}
    post(door, labels=main, probe={"seed": 1})
    door.finish()
    post(door, labels=main, probe={"seed": 2})
    newest = door.finish()
    post(door, labels={"branch": "other"}, probe={"seed": 3})
    door.finish()
    post(door, labels=main, probe={"seed": 4})  # has not succeeded
    found = asked(door, post(door, baseline=WANTED, probe={"seed": 5})["id"])
    assert found == BaselineRequest("branch", "main", newest)


def test_without_one_there_is_none(door: FrontDoor) -> None:
    found = asked(door, post(door, labels={"branch": "main"}, baseline=WANTED)["id"])
    assert found == BaselineRequest("branch", "main", None)
    value_with_colon = post(door, baseline={"label": "when:12:30"}, fresh=True)
    assert asked(door, value_with_colon["id"]) == BaselineRequest("when", "12:30", None)


def test_another_owners_is_never_one(door: FrontDoor) -> None:
    alice, bob = door.key_for("alice"), door.key_for("bob")
    post(door, alice, labels={"branch": "main"})
    door.finish()
    found = asked(door, post(door, bob, baseline=WANTED)["id"])
    assert found is not None
    assert found.id is None


def test_an_answer_against_another_baseline_is_another_answer(door: FrontDoor) -> None:
    def cached() -> bool:
        answer = post(door, labels={"branch": "main"}, baseline=WANTED)
        if not answer["cached"]:
            door.finish()
        return bool(answer["cached"])

    assert not cached()
    assert not cached()  # compared with the first
    labelled_otherwise = [post(door, labels={"n": n}, baseline=WANTED) for n in "ab"]
    door.finish()
    assert not any(one["cached"] for one in labelled_otherwise)
    assert post(door, baseline=WANTED)["cached"]


def test_a_repeated_post_is_the_first_whatever_came_since(door: FrontDoor) -> None:
    headers = {"idempotency-key": "k"}
    body = {"model": SPEC, "baseline": WANTED, "labels": {"branch": "main"}}
    first = door.client().post("/v1/analyses?wait=0", json=body, headers=headers).json()
    door.finish()
    again = door.client().post("/v1/analyses?wait=0", json=body, headers=headers)
    assert (again.status_code, again.json()["id"]) == (200, first["id"])


def test_one_that_was_deleted_since_is_none(door: FrontDoor) -> None:
    post(door)
    made = door.finish()
    found = _baseline(door.analyses, made)
    assert found is not None
    assert (found.id, found.layers) == (made, report().layers)
    assert found.findings == {one.code for one in report().diagnosis.findings}
    door.client().delete(f"/v1/analyses/{made}")
    assert _baseline(door.analyses, made) is None


def test_one_without_a_report_is_none(door: FrontDoor) -> None:
    assert baseline_of(door.analyses.get(post(door)["id"])) is None


@pytest.mark.parametrize(
    ("baseline", "pointer"),
    [
        ({"label": "main"}, "/baseline/label"),
        ({"label": ":main"}, "/baseline/label"),
        ({"label": "branch:\0"}, "/baseline/label"),
        ({}, "/baseline/label"),
        ({"label": "a:b", "id": "x"}, "/baseline/id"),
    ],
)
def test_a_wrong_one_is_named(door: FrontDoor, baseline: Any, pointer: str) -> None:
    answer = door.client().post("/v1/analyses", json={"model": SPEC, "baseline": baseline})
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]
