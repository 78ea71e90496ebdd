"""The repository and its lease queue, on SQLite and PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import chain

import pytest
from sqlalchemy import func, select

from service.domain.analysis import Analysis, Failure, Queue, Stage, Status
from service.domain.errors import AnalysisNotFound, InvalidRequest
from service.domain.findings import Verdict
from service.domain.progress import progress
from service.ports import Backlog, Claim, Filter
from service.storage.analyses import SqlAnalyses
from service.storage.lease_queue import MAX_LOST
from service.storage.session import Database
from service.storage.tables import NAME_LENGTH, labels, layers
from tests.integration.stored_examples import START, HeldClock, layer, queued, report

NOBODY = "01900000-0000-7000-8000-000000000000"
LEASE = 15.0
FAILURE = Failure("model_raised", "The model raised an error", "RuntimeError: no")


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def analyses(database: Database, clock: HeldClock) -> SqlAnalyses:
    return SqlAnalyses(database, clock)


def _add(analyses: SqlAnalyses, clock: HeldClock, **labels: str) -> Analysis:
    clock.advance(0.001)
    analysis = queued(clock.now(), **labels)
    analyses.add(analysis)
    return analysis


def _claim(analyses: SqlAnalyses, worker: str = "w1") -> Claim:
    claim = analyses.claim(worker, lease_seconds=LEASE)
    assert claim is not None
    return claim


def test_what_is_added_is_read_back(analyses: SqlAnalyses, clock: HeldClock) -> None:
    added = _add(analyses, clock, repo="graddx", branch="main")
    assert analyses.get(added.id) == replace(added, queue_position=0)
    assert analyses.status(added.id) is Status.QUEUED
    assert analyses.layers(added.id) == ()


def test_a_queued_analysis_knows_how_many_are_ahead(
    analyses: SqlAnalyses, clock: HeldClock
) -> None:
    ids = [_add(analyses, clock).id for _ in range(3)]
    assert [analyses.get(one).queue_position for one in ids] == [0, 1, 2]
    assert analyses.backlog() == Backlog(3, START + timedelta(milliseconds=1))
    _claim(analyses)
    assert [analyses.get(one).queue_position for one in ids] == [None, 0, 1]
    assert analyses.backlog().waiting == 2


def test_an_empty_queue_has_no_oldest(analyses: SqlAnalyses) -> None:
    assert analyses.backlog() == Backlog(0, None)
    assert analyses.claim("w1", lease_seconds=LEASE) is None


def test_the_oldest_is_claimed_first(analyses: SqlAnalyses, clock: HeldClock) -> None:
    first, second = _add(analyses, clock), _add(analyses, clock)
    claim = _claim(analyses)
    assert claim.analysis.id == first.id
    assert claim.attempt == claim.analysis.attempt == 1
    assert claim.analysis.status is Status.RUNNING
    assert claim.analysis.started_at == clock.now()
    assert claim.analysis.request == first.request
    assert _claim(analyses).analysis.id == second.id


def test_success_is_stored_with_report_and_layers(analyses: SqlAnalyses, clock: HeldClock) -> None:
    added = _add(analyses, clock)
    claim = _claim(analyses)
    clock.advance(2)
    done = report()
    assert analyses.succeed(claim, done)
    found = analyses.get(added.id)
    assert found.report == done
    assert (found.status, found.verdict, found.passed) == (Status.SUCCEEDED, "unhealthy", False)
    assert found.finished_at == clock.now()
    assert found.stage is None
    assert analyses.layers(added.id) == done.layers
    (listed,) = analyses.list(Filter(), limit=10, cursor=None).items
    assert listed == replace(found, report=None)


def test_nonfinite_numbers_come_back_as_none(analyses: SqlAnalyses, clock: HeldClock) -> None:
    added = _add(analyses, clock)
    odd = layer(0, "fc1", gain=float("nan"))
    assert analyses.succeed(_claim(analyses), replace(report(), layers=(odd,)))
    assert analyses.layers(added.id)[0].gradient.gain is None


def test_layers_come_in_pages(analyses: SqlAnalyses, clock: HeldClock) -> None:
    added = _add(analyses, clock)
    names = tuple(f"fc{n}" for n in range(5))
    assert analyses.succeed(_claim(analyses), report(layers=names))
    pages = [analyses.layers(added.id, after=after, limit=2) for after in (-1, 1, 3, 4)]
    assert [tuple(one.name for one in page) for page in pages] == [
        names[:2],
        names[2:4],
        names[4:],
        (),
    ]


def test_layers_may_have_any_name(
    analyses: SqlAnalyses, clock: HeldClock, database: Database
) -> None:
    added = _add(analyses, clock)
    names = ("a\0b", "ü" * 5000)
    assert analyses.succeed(_claim(analyses), report(layers=names))
    assert tuple(one.name for one in analyses.layers(added.id)) == names
    with database.read() as connection:
        indexed = connection.scalars(select(layers.c.name).order_by(layers.c.index)).all()
    assert indexed == ["a\ufffdb", "ü" * NAME_LENGTH]


def test_failure_is_stored(analyses: SqlAnalyses, clock: HeldClock) -> None:
    added = _add(analyses, clock)
    assert analyses.fail(_claim(analyses), FAILURE)
    found = analyses.get(added.id)
    assert (found.status, found.error, found.report) == (Status.FAILED, FAILURE, None)


def test_a_heartbeat_extends_the_lease_and_tells_the_stage(
    analyses: SqlAnalyses, clock: HeldClock
) -> None:
    added = _add(analyses, clock)
    claim = _claim(analyses)
    clock.advance(LEASE - 1)
    now = progress(Stage.VERIFY, 3, 4)
    assert analyses.heartbeat(claim, lease_seconds=LEASE, progress=now)
    found = analyses.head(added.id)
    assert (found.stage, found.percent) == (now.stage, now.percent)
    clock.advance(LEASE - 1)
    assert analyses.claim("w2", lease_seconds=LEASE) is None


def test_a_lease_that_ran_out_is_claimed_again_and_the_first_worker_is_fenced_off(
    analyses: SqlAnalyses, clock: HeldClock
) -> None:
    added = _add(analyses, clock)
    late = _claim(analyses, "w1")
    clock.advance(LEASE + 1)
    second = _claim(analyses, "w2")
    assert (second.analysis.id, second.attempt) == (added.id, 2)
    assert not analyses.heartbeat(late, lease_seconds=LEASE, progress=progress(Stage.PROBE))
    assert not analyses.succeed(late, report(Verdict.HEALTHY))
    assert not analyses.fail(late, FAILURE)
    assert not analyses.release(late)
    assert analyses.get(added.id).status is Status.RUNNING
    assert analyses.layers(added.id) == ()
    assert analyses.succeed(second, report())
    assert analyses.get(added.id).verdict == "unhealthy"
    assert not analyses.succeed(second, report(Verdict.HEALTHY))


def test_a_late_result_counts_while_nobody_else_has_claimed(
    analyses: SqlAnalyses, clock: HeldClock
) -> None:
    added = _add(analyses, clock)
    claim = _claim(analyses)
    clock.advance(LEASE * 10)
    assert analyses.succeed(claim, report())
    assert analyses.status(added.id) is Status.SUCCEEDED


def test_an_analysis_that_costs_three_workers_is_given_up(
    analyses: SqlAnalyses, clock: HeldClock
) -> None:
    poison = _add(analyses, clock)
    for attempt in range(1, MAX_LOST + 1):
        assert _claim(analyses).attempt == attempt
        clock.advance(LEASE + 1)
    harmless = _add(analyses, clock)
    assert _claim(analyses).analysis.id == harmless.id
    found = analyses.get(poison.id)
    assert found.status is Status.FAILED
    assert found.error is not None
    assert found.error.code == "worker_lost"
    assert found.finished_at == clock.now()


def test_what_is_handed_back_is_claimed_at_once(analyses: SqlAnalyses, clock: HeldClock) -> None:
    added = _add(analyses, clock)
    assert analyses.release(_claim(analyses))
    assert analyses.get(added.id).status is Status.QUEUED
    again = _claim(analyses, "w2")
    assert (again.analysis.id, again.attempt) == (added.id, 2)


def test_what_is_handed_back_counts_no_worker_as_lost(
    analyses: SqlAnalyses, clock: HeldClock
) -> None:
    added = _add(analyses, clock)
    for _ in range(MAX_LOST + 2):
        assert analyses.release(_claim(analyses))
    _claim(analyses)
    clock.advance(LEASE + 1)
    assert analyses.succeed(_claim(analyses, "w2"), report())
    assert analyses.get(added.id).attempt == MAX_LOST + 4


def test_a_worker_takes_from_its_own_queues(analyses: SqlAnalyses, clock: HeldClock) -> None:
    clock.advance(1)
    big = replace(queued(clock.now()), queue=Queue.GPU)
    analyses.add(big)
    small = _add(analyses, clock)
    assert analyses.backlog(Queue.GPU) == Backlog(1, big.created_at)
    claim = analyses.claim("c1", lease_seconds=LEASE, queues=[Queue.CPU])
    assert claim is not None
    assert claim.analysis.id == small.id
    assert analyses.claim("c1", lease_seconds=LEASE, queues=[Queue.CPU]) is None
    assert analyses.backlog(Queue.CPU) == Backlog(0, None, running=1)
    claim = analyses.claim("g1", lease_seconds=LEASE, queues=[Queue.CPU, Queue.GPU])
    assert claim is not None
    assert claim.analysis.queue is Queue.GPU


def test_one_that_was_named_is_claimed_when_it_waits_or_its_lease_is_over(
    analyses: SqlAnalyses, clock: HeldClock
) -> None:
    _add(analyses, clock)
    named = _add(analyses, clock)
    first = analyses.claim_this(named.id, "w1", lease_seconds=LEASE)
    assert first is not None
    assert (first.analysis.id, first.attempt) == (named.id, 1)
    assert analyses.claim_this(named.id, "w2", lease_seconds=LEASE) is None
    clock.advance(LEASE + 1)
    second = analyses.claim_this(named.id, "w2", lease_seconds=LEASE)
    assert second is not None
    assert analyses.succeed(second, report())
    assert analyses.claim_this(named.id, "w3", lease_seconds=LEASE) is None
    assert analyses.claim_this(NOBODY, "w3", lease_seconds=LEASE) is None


def test_a_holder_is_succeeded_within_its_lease_only_if_it_is_silent(
    analyses: SqlAnalyses, clock: HeldClock
) -> None:
    named = _add(analyses, clock)
    holder = _claim(analyses)
    seen = analyses.lease(named.id)
    assert seen is not None
    clock.advance(0.5)
    assert analyses.heartbeat(holder, lease_seconds=LEASE, progress=progress(Stage.PROBE))
    take = partial(analyses.claim_this, named.id, "w2", lease_seconds=LEASE)
    assert take(silent_since=seen) is None
    assert take(silent_since=analyses.lease(named.id)) is not None
    assert not analyses.heartbeat(holder, lease_seconds=LEASE, progress=progress(Stage.PROBE))
    assert analyses.lease(NOBODY) is None


def test_what_nobody_was_told_of_is_found_once(analyses: SqlAnalyses, clock: HeldClock) -> None:
    overdue = partial(analyses.overdue, Queue.CPU, seconds=5, limit=10)
    _add(analyses, clock)
    at_work = _claim(analyses)
    waiting = _add(analyses, clock)
    assert overdue(waiting=True) == ()
    clock.advance(6)
    assert overdue(waiting=False) == ()
    assert overdue(waiting=True) == (waiting.id,)
    assert overdue(waiting=True) == ()
    clock.advance(LEASE)
    assert overdue(waiting=False) == (at_work.analysis.id,)
    clock.advance(6)
    assert overdue(waiting=True) == (at_work.analysis.id, waiting.id)
    assert analyses.overdue(Queue.GPU, seconds=5, waiting=True, limit=10) == ()


@pytest.mark.parametrize("running", [False, True])
def test_cancel(analyses: SqlAnalyses, clock: HeldClock, running: bool) -> None:
    added = _add(analyses, clock)
    claim = _claim(analyses) if running else None
    assert analyses.cancel(added.id) is Status.CANCELLED
    assert analyses.get(added.id).finished_at == clock.now()
    assert analyses.claim("w2", lease_seconds=LEASE) is None
    if claim is not None:
        assert not analyses.heartbeat(claim, lease_seconds=LEASE, progress=progress(Stage.PROBE))
        assert not analyses.succeed(claim, report())
    assert analyses.cancel(added.id) is Status.CANCELLED


def test_a_finished_analysis_is_not_cancelled(analyses: SqlAnalyses, clock: HeldClock) -> None:
    added = _add(analyses, clock)
    assert analyses.succeed(_claim(analyses), report())
    assert analyses.cancel(added.id) is Status.SUCCEEDED


def test_delete_takes_layers_and_labels_along(
    analyses: SqlAnalyses, clock: HeldClock, database: Database
) -> None:
    added = _add(analyses, clock, branch="main")
    with pytest.raises(AnalysisNotFound):
        analyses.delete(added.id)
    assert analyses.succeed(_claim(analyses), report())
    analyses.delete(added.id)
    with pytest.raises(AnalysisNotFound):
        analyses.get(added.id)
    with database.read() as connection:
        for table in (layers, labels):
            assert connection.scalar(select(func.count()).select_from(table)) == 0


def test_nobody_is_not_found(analyses: SqlAnalyses) -> None:
    for ask in (
        analyses.get,
        analyses.status,
        analyses.layers,
        analyses.cancel,
        analyses.delete,
    ):
        with pytest.raises(AnalysisNotFound):
            ask(NOBODY)


def test_pages_are_newest_first_and_complete(analyses: SqlAnalyses, clock: HeldClock) -> None:
    ids = [_add(analyses, clock).id for _ in range(5)]
    seen: list[str] = []
    cursor: str | None = None
    for expected in (2, 2, 1):
        page = analyses.list(Filter(), limit=2, cursor=cursor)
        assert len(page.items) == expected
        seen += [one.id for one in page.items]
        cursor = page.next_cursor
        _add(analyses, clock)  # what comes in between shifts nothing
    assert cursor is None
    assert seen == ids[::-1]


@pytest.mark.parametrize("cursor", ["", "x", "ü", "AAAA", "a" * 500])
def test_a_made_up_cursor_is_refused(analyses: SqlAnalyses, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="cursor"):
        analyses.list(Filter(), limit=2, cursor=cursor)


def test_filters(analyses: SqlAnalyses, clock: HeldClock) -> None:
    old = _add(analyses, clock, branch="main", repo="a")
    assert analyses.succeed(_claim(analyses), report())
    new = _add(analyses, clock, branch="main", repo="b")
    clock.advance(1)
    other = queued(clock.now(), sha256="cd" * 32, branch="dev")
    analyses.add(other)

    def ids(where: Filter) -> list[str]:
        return [one.id for one in analyses.list(where, limit=10, cursor=None).items]

    assert ids(Filter(status=Status.QUEUED)) == [other.id, new.id]
    assert ids(Filter(verdict="unhealthy")) == [old.id]
    assert ids(Filter(model_sha256="cd" * 32)) == [other.id]
    assert ids(Filter(labels={"branch": "main"})) == [new.id, old.id]
    assert ids(Filter(labels={"branch": "main", "repo": "b"})) == [new.id]
    assert ids(Filter(labels={"branch": "b"})) == []
    assert ids(Filter(labels={"branch": "main"}, status=Status.QUEUED)) == [new.id]


def test_every_analysis_is_claimed_exactly_once(analyses: SqlAnalyses, clock: HeldClock) -> None:
    wanted = {_add(analyses, clock).id for _ in range(60)}

    def work(worker: str) -> list[str]:
        claimed = []
        while (claim := analyses.claim(worker, lease_seconds=LEASE)) is not None:
            claimed.append(claim.analysis.id)
        return claimed

    with ThreadPoolExecutor(8) as pool:
        claimed = [*chain.from_iterable(pool.map(work, [f"w{n}" for n in range(8)]))]
    assert len(claimed) == len(wanted)
    assert set(claimed) == wanted


def test_two_hundred_submissions_at_once_while_workers_claim(
    analyses: SqlAnalyses, clock: HeldClock
) -> None:
    rows = [queued(clock.now(), n=str(n)) for n in range(200)]

    def claim_one(_: int) -> Claim | None:
        return analyses.claim("w1", lease_seconds=LEASE)

    with ThreadPoolExecutor(40) as submitting, ThreadPoolExecutor(4) as working:
        added = submitting.map(analyses.add, rows)
        claims = [*working.map(claim_one, range(50))]
        assert [*added] == [one.id for one in rows]
    claimed = sum(claim is not None for claim in claims)
    assert analyses.backlog().waiting == 200 - claimed
