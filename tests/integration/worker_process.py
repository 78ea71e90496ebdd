"""A real worker process with a stand-in for the pipeline (python -m).

What it does with an analysis stands in the analysis' label `do`: sleep, raise, fail, kill (itself)
or nothing. It is woken by a pipe, or told by a broker.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from service.dispatch.celery_app import make_app
from service.dispatch.consumer import consume
from service.dispatch.wakeup import Waiting
from service.domain.analysis import Queue, Stage
from service.domain.errors import ModelRaised, ProbeCrashed
from service.domain.model_source import ModelSource
from service.domain.probe_plan import ProbePlan
from service.domain.progress import Progress, progress
from service.domain.report import Report
from service.domain.request import AnalysisRequest
from service.ports import Prober, ProbeSession
from service.storage.analyses import SqlAnalyses
from service.storage.clock import DatabaseClock
from service.storage.session import Database
from service.worker import Outcome, Wait, Worker
from tests.integration.stored_examples import report


class SleepingProber:
    """Its session sleeps; `abort` ends it with ProbeCrashed, as a killed child would."""

    def __init__(self) -> None:
        self._killed = threading.Event()

    def abort(self) -> None:
        self._killed.set()

    def prepare(self, source: ModelSource, plan: ProbePlan) -> None: ...

    @contextmanager
    def open(
        self, source: ModelSource, plan: ProbePlan, tell: Callable[[float], None]
    ) -> Iterator[ProbeSession]:
        self._killed.clear()
        # `sleep` below is all that the stand-in for the pipeline asks of its session.
        yield cast(ProbeSession, self)

    def sleep(self, seconds: float) -> None:
        if self._killed.wait(seconds):
            raise ProbeCrashed("the child was killed")


def analyse(
    request: AnalysisRequest,
    source: ModelSource,
    prober: Prober,
    tell: Callable[[Progress], None],
) -> Report:
    tell(progress(Stage.PROBE))
    with prober.open(source, request.probe, lambda _: None) as session:
        match request.labels.get("do"):
            case "sleep":
                cast(SleepingProber, session).sleep(float(request.labels["seconds"]))
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "raise":
                raise ZeroDivisionError("a fault of graddx")
            case "fail":
                raise ModelRaised("RuntimeError: mat1 and mat2 do not fit")
    return report()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--lease-seconds", type=float, default=1.0)
    parser.add_argument("--wake-fd", type=int)
    parser.add_argument("--broker-url")
    parser.add_argument("--prefix", default="")
    args = parser.parse_args()
    if args.broker_url is not None:
        sys.exit(_consume(args))
    worker = _worker(args, Waiting(args.wake_fd))
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    worker.run()


def _worker(args: argparse.Namespace, wait: Wait) -> Worker:
    database = Database(args.database_url)
    return Worker(
        f"pid {os.getpid()}",
        SqlAnalyses(database, DatabaseClock(database)),
        SleepingProber(),
        analyse,
        wait,
        lease_seconds=args.lease_seconds,
        discard=lambda: None,
    )


def _consume(args: argparse.Namespace) -> int:
    """As `service.bootstrap.consume`, with the stand-in."""

    @contextmanager
    def worker() -> Iterator[Worker]:
        yield _worker(args, lambda _: False)

    return consume(
        make_app(args.broker_url, args.prefix),
        args.prefix,
        (Queue.CPU,),
        f"test:{os.getpid()}",
        worker,
        Outcome.HANDED_BACK,
    )


if __name__ == "__main__":
    main()
