"""An analysis that was submitted: look at it, wait for it, stop it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from graddx.calling import call
from graddx.errors import (
    AnalysisCancelled,
    AnalysisFailed,
    ApiError,
    ConnectionFailed,
    NotFinished,
)
from graddx.events import EVENT_STREAM, EventReader
from graddx.operations.paths import ANALYSES, analysis_path, label_params
from graddx.reading import read_analysis, read_page
from graddx.results import Analysis, AnalysisHead, Progress, Succeeded
from graddx.server import Server
from graddx.steps import Follow, Page, Pages, Send, Steps, Stream

DEFAULT_WAIT = 300.0
"""Seconds to wait for a diagnosis."""
HOLD_SECONDS = 20.0
"""Longest that one call is held; short enough for proxies, which cut silent calls off."""
WATCHED_HOLD_SECONDS = 1.0
"""The same when somebody watches the progress."""
SILENCE_SECONDS = 20.0
"""Longest silence between events; the server sends a comment every 15 s."""
WAIT_PATIENCE = 2
"""Waiting repeats its calls twice as often: a server that restarts is waited for (some 30 s)."""
MOST_PER_PAGE = 100

Watch = Callable[[Progress], None]


def get(server: Server, analysis_id: str) -> Steps[Analysis]:
    """An analysis as it stands."""
    return read_analysis(
        (yield from call(server, Send("GET", analysis_path(analysis_id)))), Analysis
    )


def wait(
    server: Server,
    analysis_id: str,
    timeout: float = DEFAULT_WAIT,
    *,
    progress: Watch | None = None,
) -> Steps[Succeeded]:
    """The analysis once it succeeded. `progress` is called at every change until then: it is
    followed by events, and where those do not come through asked about every second. Raises
    NotFinished after `timeout` seconds, AnalysisFailed, AnalysisCancelled."""
    deadline = time.monotonic() + timeout
    if progress:
        yield from _watch(analysis_id, deadline, progress)
    longest = WATCHED_HOLD_SECONDS if progress else HOLD_SECONDS
    while True:
        hold = min(longest, max(0.0, deadline - time.monotonic()))
        params = {"wait": round(hold, 3)}
        look = Send("GET", analysis_path(analysis_id), params=params, hold=hold)
        answer = yield from call(server, look, patience=WAIT_PATIENCE, until=deadline)
        analysis = read_analysis(answer, Analysis)
        if analysis.final:
            _refuse_failed(analysis)
            return read_analysis(answer, Succeeded)
        if time.monotonic() >= deadline:
            raise NotFinished(analysis, timeout)
        if progress:
            progress(
                Progress(analysis.status, analysis.stage, analysis.queue_position, analysis.percent)
            )


def events(_server: Server, analysis_id: str) -> Stream:
    """Where an analysis stands, and every change until it is final, as it happens. Raises
    ConnectionFailed when the connection breaks."""
    return Stream(analysis_path(analysis_id, "events"), EVENT_STREAM, SILENCE_SECONDS)


def cancel(server: Server, analysis_id: str, *, patience: int = 1) -> Steps[Analysis]:
    """Stop an analysis that is queued or running; one that is final stays as it is. `patience`
    multiplies the repetitions of its calls.

    The server has one call to cancel and to delete: an analysis that ends in the very moment
    of this one is deleted."""
    path = analysis_path(analysis_id)
    answer = yield from call(server, Send("GET", path), patience=patience)
    analysis = read_analysis(answer, Analysis)
    if analysis.final:
        return analysis
    answer = yield from call(server, Send("DELETE", path), patience=patience)
    return read_analysis(answer, Analysis) if answer.content else analysis


def delete(server: Server, analysis_id: str) -> Steps[None]:
    """Remove an analysis, and stop it first where it is queued or running."""
    remove = Send("DELETE", analysis_path(analysis_id))
    cancelled = (yield from call(server, remove)).status_code == 202
    if cancelled:
        yield from call(server, remove)


def list_analyses(
    server: Server,
    *,
    status: str | None = None,
    verdict: str | None = None,
    labels: Mapping[str, str] | None = None,
    model_sha256: str | None = None,
) -> Pages[AnalysisHead]:
    """Analyses without their results, newest first, page after page as they are asked for."""
    filters = {"status": status, "verdict": verdict, "model_sha256": model_sha256}
    params: dict[str, Any] = {name: value for name, value in filters.items() if value}
    params |= {"label": label_params(labels), "limit": MOST_PER_PAGE}

    def page(cursor: str | None) -> Steps[Page[AnalysisHead]]:
        asked = params | ({"cursor": cursor} if cursor else {})
        answer = yield from call(server, Send("GET", ANALYSES, params=asked))
        return Page(*read_page(answer, AnalysisHead))

    return page


def _watch(analysis_id: str, deadline: float, progress: Watch) -> Steps[None]:
    """Tell what happens, until it is final, the time is nearly over, or no events come."""

    def nearly_over() -> bool:
        return time.monotonic() + SILENCE_SECONDS > deadline

    if nearly_over():
        return  # asking keeps the time better than waiting for an event
    reader = EventReader()

    def take(line: str) -> bool:
        now = reader.feed(line)
        if now is None:
            return False
        if now.final:
            return True
        progress(now)
        return nearly_over()

    with suppress(ApiError, ConnectionFailed):
        stream = Stream(analysis_path(analysis_id, "events"), EVENT_STREAM, SILENCE_SECONDS)
        yield Follow(stream, take)


def _refuse_failed(analysis: Analysis) -> None:
    """Raises AnalysisFailed, AnalysisCancelled."""
    if analysis.status == "cancelled":
        raise AnalysisCancelled(analysis)
    if analysis.status != "succeeded":
        raise AnalysisFailed(analysis)
