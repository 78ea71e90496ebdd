"""Holding a call until its analysis is final."""

from __future__ import annotations

import re
import time

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from api.error_handlers import InvalidParameter
from service.domain.analysis import Analysis
from service.use_cases import Engine

MAX_WAIT = 300
"""Longest a call is held, s."""
FIRST_PAUSE, LAST_PAUSE = 0.005, 0.2
"""Seconds between two looks, at least and at most."""
SHARE = 1 / 16
"""Of what was waited so far, the pause before the next look. A look takes a tenth of a millisecond
of the database; what an answer waits for being seen is a thirty-second of its own time on
average."""

_PREFER_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:$|[,;])', re.IGNORECASE)


def preferred_wait(prefer: str | None) -> int | None:
    """Seconds of `Prefer: wait=N` (RFC 7240); None without one. Raises InvalidParameter."""
    found = _PREFER_WAIT.search(prefer or "")
    if found and int(found[1]) > MAX_WAIT:
        raise InvalidParameter("Prefer", f"wait must be at most {MAX_WAIT} seconds")
    return int(found[1]) if found else None


def pause_after(waited: float) -> float:
    """Seconds until the next look, after so many: short for short analyses, cheap for long ones."""
    return min(max(waited * SHARE, FIRST_PAUSE), LAST_PAUSE)


async def wait_until_final(
    engine: Engine, analysis: Analysis, seconds: float, request: Request
) -> Analysis:
    """The analysis once it is final, `seconds` are over or the caller has gone.
    Raises AnalysisNotFound when it is deleted meanwhile."""
    if analysis.status.final or seconds <= 0:
        return analysis
    began = time.monotonic()
    while (waited := time.monotonic() - began) < seconds:
        await anyio.sleep(min(pause_after(waited), seconds - waited))
        if (await run_in_threadpool(engine.status, analysis.id)).final:
            break
        if await request.is_disconnected():
            break
    return await run_in_threadpool(engine.get, analysis.id)
