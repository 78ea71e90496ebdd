"""Server-Sent Events of an analysis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api import events
from api.app import create_app
from service.config import Settings
from service.domain.analysis import Analysis, Stage, Status
from service.domain.api_keys import Caller, Scope
from service.domain.progress import progress
from tests.unit.api.bodies import body
from tests.unit.api.fake_engine import FakeEngine, cancel, fail, fall_ill, succeed


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(events, "LAST_PAUSE", 0.002)


def made(client: TestClient) -> str:
    return f"/v1/analyses/{client.post('/v1/analyses?wait=0', json=body()).json()['id']}"


def parsed(text: str) -> list[dict[str, Any]]:
    """Events with their id, name and data; comments left out."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith(":")]
        fields = dict(line.split(": ", 1) for line in lines)
        if fields:
            found.append({**fields, "data": json.loads(fields["data"])})
    return found


class Staged(FakeEngine):
    """Goes on by one state with every look at it."""

    def __init__(self, *states: tuple[Status, Stage | None]) -> None:
        super().__init__()
        self.outcome = None
        self.states: Iterator[tuple[Status, Stage | None]] = iter(states)

    def head(self, analysis_id: str) -> Analysis:
        status, stage = next(self.states)
        known = self.analyses[analysis_id]
        if status.final:
            self.analyses[analysis_id] = fall_ill(known)
            return replace(self.analyses[analysis_id], report=None)
        percent = progress(stage).percent if stage else None
        return replace(known, status=status, stage=stage, percent=percent, queue_position=None)


def running(*stages: Stage) -> list[tuple[Status, Stage | None]]:
    return [(Status.RUNNING, stage) for stage in stages]


def followed(engine: FakeEngine, **headers: str) -> Any:
    with TestClient(create_app(engine, Settings())) as client:
        return client.get(f"{made(client)}/events", headers=headers)


def test_every_stage_is_told_and_then_the_end() -> None:
    states = [(Status.QUEUED, None), *running(*Stage), (Status.SUCCEEDED, None)]
    answer = followed(Staged(*states))
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = parsed(answer.text)
    assert [one["data"]["stage"] for one in told] == [None, *[one.value for one in Stage], None]
    percents = [one["data"]["percent"] for one in told]
    assert percents == sorted(set(percents))
    assert (percents[0], percents[-1]) == (0, 100)
    assert [one["event"] for one in told] == ["progress"] * (len(told) - 1) + ["end"]
    assert told[-1]["data"] | {"percent": 0} == {
        "status": "succeeded", "stage": None, "queue_position": None, "percent": 0,
        "verdict": "unhealthy", "passed": False,
    }  # fmt: skip
    assert [one["id"] for one in told] == [str(percent) for percent in percents]
    assert told[0]["retry"] == "1000"


def test_progress_within_a_stage_is_told() -> None:
    class Verifying(FakeEngine):
        answers = iter(range(4))

        def head(self, analysis_id: str) -> Analysis:
            answered = next(self.answers)
            known = self.analyses[analysis_id]
            if answered == 3:
                return replace(fall_ill(known), report=None)
            far = progress(Stage.VERIFY, answered, 4)
            return replace(
                known, status=Status.RUNNING, stage=far.stage, percent=far.percent,
                queue_position=None,
            )  # fmt: skip

    engine = Verifying()
    engine.outcome = None
    told = parsed(followed(engine).text)
    assert [one["data"]["stage"] for one in told] == ["verify"] * 3 + [None]
    percents = [one["data"]["percent"] for one in told]
    assert percents == sorted(set(percents))
    assert percents[0] == 65


def test_progress_never_goes_back() -> None:
    """A second attempt begins again; so does a caller who was cut off."""
    again = [*running(Stage.VERIFY, Stage.LOAD, Stage.PROBE), (Status.SUCCEEDED, None)]
    told = parsed(followed(Staged(*again)).text)
    assert [one["data"]["percent"] for one in told] == [65, 65, 65, 100]
    resumed = parsed(followed(Staged(*again[1:]), **{"last-event-id": "40"}).text)
    assert [one["data"]["percent"] for one in resumed] == [40, 40, 100]


@pytest.mark.parametrize("given", ["-1", "x", "99999999999999999999", "²", ""])
def test_ids_that_are_not_ours_are_none(given: str) -> None:
    assert events.last_percent(given) == 0


def test_the_end_cannot_be_claimed_before_it_is_there() -> None:
    states = [*running(Stage.LOAD), (Status.SUCCEEDED, None)]
    told = parsed(followed(Staged(*states), **{"last-event-id": "100"}).text)
    assert [one["event"] for one in told] == ["progress", "end"]


def test_the_same_state_is_told_once_and_silence_is_kept_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_SECONDS", 0.02)
    states = [*running(*[Stage.PROBE] * 60), (Status.SUCCEEDED, None)]
    text = followed(Staged(*states)).text
    assert len(parsed(text)) == 2
    assert text.count(": ping") >= 2


@pytest.mark.parametrize("outcome", [succeed, fall_ill, fail, cancel])
def test_a_final_analysis_has_one_event_and_then_nothing(
    client: TestClient, engine: FakeEngine, outcome: Any
) -> None:
    engine.outcome = outcome
    address = made(client)
    (told,) = parsed(client.get(f"{address}/events").text)
    assert (told["event"], told["id"]) == ("end", "100")
    assert told["data"]["status"] == client.get(address).json()["status"]
    after = client.get(f"{address}/events", headers={"last-event-id": "100"})
    assert (after.status_code, after.content) == (204, b"")


def test_an_analysis_that_is_deleted_ends(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome = None
    address = made(client)
    looks = 0
    status = engine.status

    def vanish(analysis_id: str) -> Status:
        nonlocal looks
        looks += 1
        if looks == 3:
            engine.analyses.clear()
        return status(analysis_id)

    engine.status = vanish  # type: ignore[method-assign]
    assert len(parsed(client.get(f"{address}/events").text)) == 1


def test_nothing_to_follow(client: TestClient) -> None:
    assert client.get("/v1/analyses/none/events").json()["code"] == "analysis_not_found"
    told = client.get(f"{made(client)}/events", headers={"accept": "application/json"})
    assert told.status_code == 406


def test_events_are_their_owners_and_need_read(client: TestClient, engine: FakeEngine) -> None:
    address = made(client)
    engine.callers = {
        "gdx_other": Caller("other", frozenset(Scope), "1"),
        "gdx_write": Caller("local", frozenset({Scope.WRITE}), "2"),
    }
    for token, status in (("gdx_other", 404), ("gdx_write", 403), ("gdx_none", 401)):
        headers = {"authorization": f"Bearer {token}"}
        assert client.get(f"{address}/events", headers=headers).status_code == status
