"""What happens to an analysis as it happens, as Server-Sent Events (WHATWG HTML).

An event's id is the percentage reached, so that a caller who comes back with Last-Event-ID is
never told less than before, and one who was told the end gets 204, which means: do not come back.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import anyio
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.concurrency import run_in_threadpool

from api.schemas.responses import ProgressOut
from service.domain.analysis import Analysis
from service.domain.errors import AnalysisNotFound
from service.domain.progress import END
from service.use_cases import Engine

EVENT_STREAM = "text/event-stream"
KEEP_ALIVE_SECONDS = 15.0
"""Longest silence: proxies cut silent connections off, often after 30 or 60 s."""
FIRST_PAUSE, GROWTH, LAST_PAUSE = 0.02, 1.5, 0.25
"""Seconds between two looks."""
RETRY_MS = 1000
"""After which a browser comes back when the connection breaks."""


def last_percent(last_event_id: str | None) -> int:
    """The percentage that the caller was told last; 0 when it is none of ours."""
    given = (last_event_id or "").strip()
    known = given.isascii() and given.isdecimal() and len(given) <= 3
    return min(int(given), END) if known else 0


async def events(engine: Engine, analysis: Analysis, told: int) -> AsyncIterator[bytes]:
    """Where it stands, then every change, and last its end. `told`: percentage known already."""
    # Only the end is the end, whatever the caller says to have seen.
    percent, before, pause = min(told, END - 1), None, FIRST_PAUSE
    spoke = time.monotonic()
    while True:
        percent = max(percent, _percent(analysis))
        now = _progress(analysis, percent)
        if now != before:
            yield _event(now, first=before is None)
            before, pause, spoke = now, FIRST_PAUSE, time.monotonic()
        elif time.monotonic() - spoke >= KEEP_ALIVE_SECONDS:
            yield KEEPALIVE_COMMENT
            spoke = time.monotonic()
        if analysis.status.final:
            return
        await anyio.sleep(pause)
        pause = min(pause * GROWTH, LAST_PAUSE)
        try:
            analysis = await run_in_threadpool(engine.head, analysis.id)
        except AnalysisNotFound:  # deleted meanwhile
            return


def _percent(analysis: Analysis) -> int:
    if analysis.status.final:
        return END
    return analysis.percent or 0


def _progress(analysis: Analysis, percent: int) -> ProgressOut:
    return ProgressOut(
        status=analysis.status.value,
        stage=analysis.stage,
        queue_position=analysis.queue_position,
        percent=percent,
        verdict=analysis.verdict,
        passed=analysis.passed,
    )


def _event(now: ProgressOut, *, first: bool) -> bytes:
    return format_sse_event(
        event="end" if now.percent == END else "progress",
        data_str=now.model_dump_json(),
        id=str(now.percent),
        retry=RETRY_MS if first else None,
    )
