"""Analyses in the database: the one truth, and the lease queue that workers claim from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    and_,
    case,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from service.domain.analysis import Analysis, Failure, Queue, Status
from service.domain.api_keys import LOCAL
from service.domain.errors import AnalysisNotFound, IdempotencyInFlight
from service.domain.measurements import LayerMeasurements
from service.domain.progress import Progress
from service.domain.report import Report
from service.ports import Backlog, Claim, Clock, Filter, LayerAt, LayerPage, Once, Page
from service.storage import cursors, lease_queue, mapping, submissions
from service.storage.retention import OPEN
from service.storage.session import Database, waited_in_vain
from service.storage.tables import (
    MADE,
    REVISION,
    analyses,
    idempotency_keys,
    labels,
    layers,
    uses,
)

_ahead = analyses.alias("ahead")
_position = case(
    (
        analyses.c.status == Status.QUEUED.value,
        select(func.count())
        .where(_ahead.c.status == Status.QUEUED.value, _ahead.c.id < analyses.c.id)
        .scalar_subquery(),
    )
).label("queue_position")
_without_report = [column for column in analyses.c if column.name != "report"]


class SqlAnalyses:
    """`service.ports.AnalysisRepository` on SQLite or PostgreSQL."""

    def __init__(self, database: Database, clock: Clock, owner: str | None = None) -> None:
        """`owner`: whose analyses there are; None: everybody's, for a worker."""
        self._database = database
        self._clock = clock
        self._owner = owner

    def owned_by(self, owner: str) -> SqlAnalyses:
        """The same seen by one owner, for whom nobody else's analyses exist."""
        return SqlAnalyses(self._database, self._clock, owner)

    def add(
        self,
        analysis: Analysis,
        *,
        question: str | None = None,
        copied_from: str | None = None,
        queue_limit: int | None = None,
        once: Once | None = None,
    ) -> str:
        """Store a new analysis, queued or with the answer of the one it is copied from; returns its
        id, or that of the analysis that `once` made before.

        Raises ArtifactNotFound when a file it refers to is gone, AnalysisNotFound when the one to
        copy is, QueueFull, IdempotencyConflict, IdempotencyInFlight."""
        now = self._clock.now()
        try:
            with self._database.write() as connection:
                if once and (made := submissions.made_by(connection, analysis.owner, once)):
                    return made
                if copied_from is None:
                    submissions.check_queue(connection, queue_limit)
                submissions.store(connection, analysis, question, now)
                if copied_from is not None:
                    submissions.copy_answer(connection, copied_from, analysis)
                if once:
                    submissions.keep_key(connection, analysis, once, now)
                return analysis.id
        except (IntegrityError, OperationalError) as error:
            # Another transaction was quicker; what it has made is there now, unless it goes on.
            made = self.made_by(once, analysis.owner) if once else None
            if made is not None:
                return made
            if once and isinstance(error, OperationalError) and waited_in_vain(error):
                raise IdempotencyInFlight(
                    "the first request with this Idempotency-Key is just being stored"
                ) from error
            raise

    def made_by(self, once: Once, owner: str | None = None) -> str | None:
        """Id of the analysis that this key has made. Raises IdempotencyConflict."""
        with self._database.read() as connection:
            return submissions.made_by(connection, owner or self._owner or LOCAL, once)

    def answer_to(self, question: str) -> str | None:
        """Id of the newest analysis that succeeded and answers this question."""
        same = and_(analyses.c.question == question, analyses.c.status == Status.SUCCEEDED.value)
        newest = select(func.max(analyses.c.id)).where(same, *self._mine())
        with self._database.read() as connection:
            found: str | None = connection.scalar(newest)
        return found

    def forget_keys(self, before: datetime) -> int:
        """Delete Idempotency-Keys that were first used before this time; returns how many."""
        old = delete(idempotency_keys).where(idempotency_keys.c.created_at < before)
        with self._database.write() as connection:
            return connection.execute(old).rowcount

    def get(self, analysis_id: str) -> Analysis:
        """The analysis with its report, if any. Raises AnalysisNotFound."""
        with self._database.read() as connection:
            row = self._row(connection, select(analyses, _position), analysis_id)
            found = _layers(connection, analysis_id) if row["report"] else ()
        return mapping.analysis(row, mapping.report(row["report"], found))

    def head(self, analysis_id: str) -> Analysis:
        """The analysis without its report. Raises AnalysisNotFound."""
        with self._database.read() as connection:
            return self._head(connection, analysis_id)

    def status(self, analysis_id: str) -> Status:
        """Only the status. Raises AnalysisNotFound."""
        with self._database.read() as connection:
            return Status(self._row(connection, select(analyses.c.status), analysis_id)["status"])

    def list(self, where: Filter, *, limit: int, cursor: str | None) -> Page:
        """Newest first, without reports. Raises InvalidRequest for a bad cursor."""
        query = select(*_without_report, _position).where(*self._mine(), *_conditions(where))
        if cursor is not None:
            query = query.where(analyses.c.id < cursors.decode(cursor))
        with self._database.read() as connection:
            rows = (
                connection.execute(query.order_by(analyses.c.id.desc()).limit(limit + 1))
                .mappings()
                .all()
            )
        items = tuple(mapping.analysis(row, None) for row in rows[:limit])
        return Page(items, cursors.encode(items[-1].id) if len(rows) > limit else None)

    def layers(
        self, analysis_id: str, *, after: int = -1, limit: int | None = None
    ) -> tuple[LayerMeasurements, ...]:
        """Layer statistics in order, from the one behind index `after` on, at most `limit`; empty
        until succeeded. Raises AnalysisNotFound."""
        with self._database.read() as connection:
            self._row(connection, select(analyses.c.id), analysis_id)
            return _layers(connection, analysis_id, after, limit)

    def history(
        self, layer: str, labels: Mapping[str, str], *, limit: int, cursor: str | None
    ) -> LayerPage:
        """The layer of this name in every analysis that succeeded and carries these labels, newest
        first. Raises InvalidRequest for a bad cursor."""
        where = Filter(status=Status.SUCCEEDED, labels=labels)
        query = (
            select(*_without_report, _position, layers.c.statistics)
            .join_from(layers, analyses, layers.c.analysis_id == analyses.c.id)
            .where(layers.c.name == mapping.index_name(layer), *self._mine(), *_conditions(where))
        )
        if cursor is not None:
            query = query.where(analyses.c.id < cursors.decode(cursor))
        with self._database.read() as connection:
            newest = query.order_by(analyses.c.id.desc(), layers.c.index).limit(limit + 1)
            rows = connection.execute(newest).mappings().all()
        items = tuple(
            LayerAt(mapping.analysis(row, None), mapping.layer(row["statistics"]))
            for row in rows[:limit]
        )
        # The index holds the beginning of a long name.
        exact = tuple(one for one in items if one.layer.name == layer)
        more = len(rows) > limit
        return LayerPage(exact, cursors.encode(items[-1].analysis.id) if more else None)

    def backlog(self, queue: Queue | None = None) -> Backlog:
        """What waits and what is at work, in one queue or in all."""
        with self._database.read() as connection:
            return lease_queue.backlog(connection, queue)

    def claim(
        self, worker: str, *, lease_seconds: float, queues: Collection[Queue] | None = None
    ) -> Claim | None:
        """Take the oldest analysis that is queued or whose lease ran out; None: nothing to do.
        `queues`: only of these."""
        while self._something_to_do(queues):
            with self._database.write() as connection:
                now = self._clock.now()
                claimed = lease_queue.claim_oldest(connection, worker, now, lease_seconds, queues)
                if claimed is not None:
                    return Claim(self._head(connection, claimed[0]), claimed[1])
        return None

    def claim_this(
        self,
        analysis_id: str,
        worker: str,
        *,
        lease_seconds: float,
        silent_since: datetime | None = None,
    ) -> Claim | None:
        """Take this analysis if it is queued, its lease ran out, or its lease is still the one
        that was seen before (`silent_since`); None: somebody has it, or it is final."""
        with self._database.write() as connection:
            now = self._clock.now()
            attempt = lease_queue.claim_this(
                connection, analysis_id, worker, now, lease_seconds, silent_since
            )
            # In one transaction: a claim that was made but not read would be one to wait for.
            return None if attempt is None else Claim(self._head(connection, analysis_id), attempt)

    def lease(self, analysis_id: str) -> datetime | None:
        """Until when somebody holds this analysis; None: nobody does."""
        with self._database.read() as connection:
            return lease_queue.lease(connection, analysis_id)

    def overdue(
        self, queue: Queue, *, seconds: float, waiting: bool, limit: int
    ) -> tuple[str, ...]:
        """Analyses that nobody was told of for so long and whose lease ran out or, if asked for,
        that wait. From now on they count as told of."""
        with self._database.write() as connection:
            now = self._clock.now()
            before = now - timedelta(seconds=seconds)
            return lease_queue.overdue(connection, queue, now, before, waiting=waiting, limit=limit)

    def heartbeat(self, claim: Claim, *, lease_seconds: float, progress: Progress) -> bool:
        """Extend the lease and tell how far it is; False: the claim is lost or cancelled, stop."""
        lease = self._clock.now() + timedelta(seconds=lease_seconds)
        return self._write(claim, {"lease_until": lease, **mapping.progress_values(progress)})

    def release(self, claim: Claim) -> bool:
        """Hand the analysis back to the queue; False: the claim was lost."""
        return self._write(
            claim, {"status": Status.QUEUED.value, "lease_until": None, **mapping.NO_PROGRESS}
        )

    def succeed(self, claim: Claim, report: Report) -> bool:
        """Store the result; False: the claim was lost, nothing was written."""
        values = {"status": Status.SUCCEEDED.value, **mapping.report_values(report)}
        rows = mapping.layer_values(claim.analysis.id, report)
        made = report.prescription.weights if report.prescription else None
        return self._write(claim, values | self._finished(), rows, made)

    def fail(self, claim: Claim, failure: Failure) -> bool:
        """Store the failure; False: the claim was lost, nothing was written."""
        return self._write(claim, lease_queue.failed(failure) | self._finished())

    def cancel(self, analysis_id: str) -> Status:
        """queued or running → cancelled; returns the status now. Raises AnalysisNotFound."""
        with self._database.write() as connection:
            connection.execute(
                update(analyses)
                .where(analyses.c.id == analysis_id, analyses.c.status.in_(OPEN), *self._mine())
                .values(status=Status.CANCELLED.value, **self._finished())
            )
            return Status(self._row(connection, select(analyses.c.status), analysis_id)["status"])

    def delete(self, analysis_id: str) -> None:
        """Remove a final analysis and its layers. Raises AnalysisNotFound."""
        final = and_(analyses.c.id == analysis_id, analyses.c.status.not_in(OPEN), *self._mine())
        with self._database.write() as connection:
            if not connection.execute(delete(analyses).where(final)).rowcount:
                raise AnalysisNotFound(f"no finished analysis {analysis_id}")
            # What it gave up is still to be deleted, and what it made is now; what else it
            # retained nobody asks to keep any more.
            noted = and_(uses.c.analysis_id == analysis_id, uses.c.retain)
            connection.execute(delete(uses).where(noted, uses.c.upload != MADE))
            connection.execute(update(uses).where(noted).values(retain=False))

    def ready(self) -> bool:
        """True when the database answers and its schema is current."""
        try:
            with self._database.read() as connection:
                revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
                return str(revision) == REVISION
        except SQLAlchemyError:
            return False

    def _mine(self) -> tuple[ColumnElement[bool], ...]:
        return () if self._owner is None else (analyses.c.owner == self._owner,)

    def _head(self, connection: Connection, analysis_id: str) -> Analysis:
        row = self._row(connection, select(*_without_report, _position), analysis_id)
        return mapping.analysis(row, None)

    def _row(self, connection: Connection, query: Select[Any], analysis_id: str) -> RowMapping:
        this = query.where(analyses.c.id == analysis_id, *self._mine())
        row = connection.execute(this).mappings().first()
        if row is None:
            raise AnalysisNotFound(f"no analysis {analysis_id}")
        return row

    def _something_to_do(self, queues: Collection[Queue] | None) -> bool:
        # Idle workers ask every second: a read takes no lock from the writers.
        oldest = lease_queue.claimable(self._clock.now(), queues)
        with self._database.read() as connection:
            return connection.execute(oldest).first() is not None

    def _finished(self) -> dict[str, Any]:
        return lease_queue.finished(self._clock.now())

    def _write(
        self,
        claim: Claim,
        values: dict[str, Any],
        layer_rows: Sequence[dict[str, Any]] = (),
        made: str | None = None,
    ) -> bool:
        # The fence: a worker that was stopped and goes on finds another attempt in the row.
        mine = and_(
            analyses.c.id == claim.analysis.id,
            analyses.c.attempt == claim.attempt,
            analyses.c.status == Status.RUNNING.value,
        )
        with self._database.write() as connection:
            if not connection.execute(update(analyses).where(mine).values(values)).rowcount:
                return False
            if layer_rows:
                connection.execute(insert(layers), layer_rows)
            if made is not None:
                submissions.own(connection, claim.analysis, made)
        return True


def _conditions(where: Filter) -> list[ColumnElement[bool]]:
    wanted = {"status": where.status, "verdict": where.verdict, "model_sha256": where.model_sha256}
    equal = [analyses.c[name] == str(value) for name, value in wanted.items() if value is not None]
    return equal + [_labelled(key, value) for key, value in (where.labels or {}).items()]


def _labelled(key: str, value: str) -> ColumnElement[bool]:
    carrying = select(labels.c.analysis_id).where(labels.c.key == key, labels.c.value == value)
    return analyses.c.id.in_(carrying)


def _layers(
    connection: Connection, analysis_id: str, after: int = -1, limit: int | None = None
) -> tuple[LayerMeasurements, ...]:
    rows = connection.scalars(
        select(layers.c.statistics)
        .where(layers.c.analysis_id == analysis_id, layers.c.index > after)
        .order_by(layers.c.index)
        .limit(limit)
    )
    return tuple(map(mapping.layer, rows))
