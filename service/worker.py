"""A worker: claim, analyse, save, again. Every write is fenced by the claim."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeVar
from uuid import uuid4

import structlog

from service.domain.analysis import Failure, Queue, Stage
from service.domain.errors import GraddxError, InternalError
from service.domain.model_source import ModelSource, model_source
from service.domain.probe_plan import ProbePlan
from service.domain.progress import Progress, progress
from service.domain.report import Report
from service.domain.request import AnalysisRequest
from service.ports import AnalysisRepository, Claim, Prober

POLL_SECONDS = 1.0
"""How long a worker sleeps when nobody wakes it; bounds what a lost wake-up costs."""
BEAT_SECONDS = 0.5
"""How often a heartbeat is written, or LEASE_SECONDS / 3; bounds how long a cancelled child
goes on."""
STEP_SECONDS = 0.25
"""How often progress within a stage is written, at most: whoever follows looks as often."""
TICK_SECONDS = 0.05
"""How soon a new stage or a request to stop is noticed."""
SILENT_BEATS = 3
"""Heartbeats that a holder may miss before its analysis, delivered again, is taken over."""
PATIENCE_SECONDS = 60.0
"""How long a worker with an analysis in hand waits for a database that is away; then the lease, or
the sweeper, brings the analysis back."""
AGAIN_SECONDS = 0.25
"""Between two tries to reach the database."""

log = structlog.get_logger()

Analyse = Callable[[AnalysisRequest, ModelSource, Prober, Callable[[Progress], None]], Report]
"""The pipeline."""
Wait = Callable[[float], bool]
"""Sleep until woken or so many seconds are over; False: nobody is left to work for."""


_T = TypeVar("_T")


class Outcome(StrEnum):
    """What became of an analysis that a worker was told of."""

    ENDED = "ended"
    """It is final, or another worker's: nobody need be told again."""
    HANDED_BACK = "handed back"
    """It waits again: another worker should be told."""


class AbortableProber(Prober, Protocol):
    """A prober whose child can be ended from another thread."""

    def prepare(self, source: ModelSource, plan: ProbePlan) -> None:
        """Wait for whatever has to be there before this model's child can begin. Raises
        GraddxError."""

    def abort(self) -> None:
        """Kill the child, if any: the session at work raises ProbeFailure."""


class Abandoned(Exception):
    """The claim is gone, or the worker stops: nobody wants this result."""


class Worker:
    """One loop in one process, one analysis at a time."""

    def __init__(
        self,
        name: str,
        analyses: AnalysisRepository,
        prober: AbortableProber,
        analyse: Analyse,
        wait: Wait,
        *,
        lease_seconds: float,
        discard: Callable[[], None],
        work_for: Callable[[str], None] = lambda _: None,
        queues: Collection[Queue] | None = None,
        note: Callable[[str, float], None] = lambda *_: None,
    ) -> None:
        """`name` is stored with what it claims, for people. `discard`: delete the files that
        ended analyses do not retain. `work_for`: told the owner of an analysis before the prober
        is asked for the owner's files. `queues`: it looks into these alone; None: into all.
        `note`: told what became of every attempt, and after how many seconds."""
        self._name = name
        self._analyses = analyses
        self._prober = prober
        self._analyse = analyse
        self._wait = wait
        self._lease_seconds = lease_seconds
        self._discard = discard
        self._work_for = work_for
        self._queues = queues
        self._note = note
        self._stopping = False

    def stop(self) -> None:
        """Hand back what is at work and return from `run`; safe in a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Work until told to stop, or until nobody is left to work for."""
        worked = True
        while self._wait(0.0 if worked else POLL_SECONDS) and not self._stopping:
            try:
                worked = self.work_once()
            except Exception:
                # The database is away or full: the lease brings the analysis back.
                log.exception("the queue could not be read or written")
                worked = False

    def work_once(self) -> bool:
        """Take one analysis and bring it to its end; False: there was none."""
        claim = self._analyses.claim(
            self._name, lease_seconds=self._lease_seconds, queues=self._queues
        )
        if claim is None:
            return False
        self._work_on(claim)
        return True

    def work_on(self, analysis_id: str, *, again: bool) -> Outcome:
        """Bring this analysis to its end, unless it is final or somebody else's. `again`: whoever
        was told before is gone, as far as the broker can tell. Raises the database's error when it
        is away for longer than PATIENCE_SECONDS."""
        if self._stopping:
            return Outcome.HANDED_BACK
        claim = self._patiently(lambda: self._claim_this(analysis_id, again))
        return Outcome.ENDED if claim is None else self._work_on(claim)

    def _claim_this(self, analysis_id: str, again: bool) -> Claim | None:
        def take(silent_since: datetime | None) -> Claim | None:
            return self._analyses.claim_this(
                analysis_id,
                self._name,
                lease_seconds=self._lease_seconds,
                silent_since=silent_since,
            )

        claim = take(None)
        held_until = self._analyses.lease(analysis_id) if claim is None and again else None
        if held_until is None:
            return claim
        # A consumer that lost its connection, not its life, goes on: its heartbeat tells.
        self._sleep(SILENT_BEATS * beat_seconds(self._lease_seconds))
        return take(held_until)

    def _work_on(self, claim: Claim) -> Outcome:
        began = time.monotonic()
        with structlog.contextvars.bound_contextvars(
            analysis=claim.analysis.id,
            attempt=claim.attempt,
            request_id=claim.analysis.request_id,
        ):
            log.info("claimed", worker=self._name)
            with _Heartbeat(
                claim, self._analyses, self._prober, self._lease_seconds, lambda: self._stopping
            ) as heartbeat:
                result = self._result(claim, heartbeat.tell)
            became = self._patiently(lambda: self._save(claim, result, heartbeat))
            seconds = time.monotonic() - began
            log.info(became, seconds=round(seconds, 3))
        if claim.attempt > 1:
            self._note("again", 0.0)
        self._note(became, seconds)
        self._discard()
        return Outcome.HANDED_BACK if became == Outcome.HANDED_BACK else Outcome.ENDED

    def _patiently(self, ask: Callable[[], _T]) -> _T:
        """What the database answers, once it does."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return ask()
            except GraddxError:
                raise
            except Exception as error:
                # Any driver's error; this room knows none of them.
                if self._stopping or time.monotonic() >= until:
                    raise
                log.warning("the database did not answer", error=str(error).splitlines()[0])
                self._sleep(AGAIN_SECONDS)

    def _sleep(self, seconds: float) -> None:
        """So long, or until told to stop."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, TICK_SECONDS))

    def _result(self, claim: Claim, tell: Callable[[Progress], None]) -> Report | Failure | None:
        """What came out; None: it was abandoned between two stages."""
        analysis = claim.analysis
        self._work_for(analysis.owner)
        try:
            source = model_source(analysis.request.model, analysis.model_format or "spec")
            self._prober.prepare(source, analysis.request.probe)  # on nobody's budget
            return self._analyse(analysis.request, source, self._prober, tell)
        except Abandoned:
            return None
        except GraddxError as error:
            return Failure(error.code, error.title, error.detail)
        except Exception:
            return _unforeseen()

    def _save(self, claim: Claim, result: Report | Failure | None, heartbeat: _Heartbeat) -> str:
        """Store what came out, unless it is our own doing; returns what happened, for the log."""
        if isinstance(result, Report):
            return "succeeded" if self._analyses.succeed(claim, result) else "too late"
        if heartbeat.lost:
            return "abandoned"
        if result is None or heartbeat.stopping:
            return Outcome.HANDED_BACK if self._analyses.release(claim) else "too late"
        return f"failed: {result.code}" if self._analyses.fail(claim, result) else "too late"


def beat_seconds(lease_seconds: float) -> float:
    """Between two heartbeats."""
    return min(BEAT_SECONDS, lease_seconds / 3)


def _unforeseen() -> Failure:
    error_id = uuid4().hex[:12]
    log.exception("an analysis met a fault of graddx itself", error_id=error_id)
    detail = f"a fault of graddx itself; the server's log tells more under {error_id}"
    return Failure(InternalError.code, InternalError.title, detail)


class _Heartbeat:
    """A thread that extends the lease while the work goes on, and ends work nobody wants."""

    def __init__(
        self,
        claim: Claim,
        analyses: AnalysisRepository,
        prober: AbortableProber,
        lease_seconds: float,
        told_to_stop: Callable[[], bool],
    ) -> None:
        self.lost = False
        """The claim is gone: cancelled, or taken by another worker."""
        self.stopping = False
        """The worker was told to stop."""
        self._claim = claim
        self._analyses = analyses
        self._prober = prober
        self._lease_seconds = lease_seconds
        self._told_to_stop = told_to_stop
        self._now = self._told = progress(Stage.LOAD)
        self._beaten = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> _Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def tell(self, now: Progress) -> None:
        """The work has come so far. Raises Abandoned when it should not go on."""
        if self.lost or self.stopping:
            raise Abandoned
        self._now = now

    def _run(self) -> None:
        while not self._done.wait(TICK_SECONDS):
            self.stopping = self._told_to_stop()
            if not self.lost and self._due():
                self._beat()
            if self.lost or self.stopping:
                # Every tick: the work may be about to open the next child.
                self._prober.abort()

    def _due(self) -> bool:
        if self._now.stage is not self._told.stage:
            return True
        pause = beat_seconds(self._lease_seconds)
        if self._now != self._told:
            pause = min(pause, STEP_SECONDS)
        return time.monotonic() - self._beaten >= pause

    def _beat(self) -> None:
        now = self._now
        try:
            self.lost = not self._analyses.heartbeat(
                self._claim, lease_seconds=self._lease_seconds, progress=now
            )
        except Exception:
            # Without a database nobody can take the analysis either; the fence decides at the end.
            log.exception("no heartbeat could be written", analysis=self._claim.analysis.id)
        self._told, self._beaten = now, time.monotonic()
