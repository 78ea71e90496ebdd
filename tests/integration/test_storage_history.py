"""One layer over many analyses, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.domain.errors import InvalidRequest
from service.storage.analyses import SqlAnalyses
from service.storage.session import Database
from tests.integration.stored_examples import HeldClock, queued, report

LAYER = report().layers[0]


class Stored:
    """Analyses made one after another."""

    def __init__(self, database: Database) -> None:
        self.clock = HeldClock()
        self.all = SqlAnalyses(database, self.clock)

    def succeed(self, gain: float, name: str = "fc1", owner: str = "local", **labels: str) -> str:
        self.clock.advance(1)
        made = replace(queued(self.clock.now(), **labels), owner=owner)
        self.all.add(made)
        claim = self.all.claim("w", lease_seconds=60)
        assert claim is not None
        layer = replace(LAYER, name=name, gradient=replace(LAYER.gradient, gain=gain))
        assert self.all.succeed(claim, replace(report(), layers=(layer,)))
        return made.id


@pytest.fixture
def stored(database: Database) -> Stored:
    return Stored(database)


def test_newest_first_page_after_page(stored: Stored) -> None:
    for number in range(5):
        stored.succeed(float(number), branch="main")
    stored.succeed(9.0, branch="other")
    stored.succeed(9.0, name="fc2", branch="main")
    mine = stored.all.owned_by("local")
    seen: list[float | None] = []
    cursor: str | None = None
    while True:
        page = mine.history("fc1", {"branch": "main"}, limit=2, cursor=cursor)
        seen += [one.layer.gradient.gain for one in page.items]
        assert all(one.analysis.report is None for one in page.items)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [4.0, 3.0, 2.0, 1.0, 0.0]


def test_every_label_must_match_and_none_is_all(stored: Stored) -> None:
    wanted = stored.succeed(1.0, branch="main", suite="a")
    stored.succeed(2.0, branch="main", suite="b")
    mine = stored.all.owned_by("local")
    found = mine.history("fc1", {"branch": "main", "suite": "a"}, limit=9, cursor=None)
    assert [one.analysis.id for one in found.items] == [wanted]
    assert found.items[0].analysis.labels == {"branch": "main", "suite": "a"}
    assert len(mine.history("fc1", {}, limit=9, cursor=None).items) == 2


def test_only_the_owners_own(stored: Stored) -> None:
    stored.succeed(1.0, owner="alice")
    assert stored.all.owned_by("bob").history("fc1", {}, limit=9, cursor=None).items == ()
    assert len(stored.all.owned_by("alice").history("fc1", {}, limit=9, cursor=None).items) == 1


def test_names_longer_than_the_index_are_told_apart(stored: Stored) -> None:
    long = "x" * 300
    stored.succeed(1.0, name=f"{long}a")
    stored.succeed(2.0, name=f"{long}b")
    found = stored.all.owned_by("local").history(f"{long}a", {}, limit=9, cursor=None)
    assert [one.layer.gradient.gain for one in found.items] == [1.0]


def test_a_head_has_no_report(stored: Stored) -> None:
    found = stored.all.head(stored.succeed(1.0, branch="main"))
    assert (found.report, found.labels) == (None, {"branch": "main"})
    assert found.verdict is not None


def test_a_bad_cursor_is_refused(stored: Stored) -> None:
    with pytest.raises(InvalidRequest):
        stored.all.history("fc1", {}, limit=9, cursor="?")
