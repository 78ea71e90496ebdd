"""For whoever runs the server."""

from __future__ import annotations

from typing import Literal

from api.schemas.responses.wire import Out


class LiveOut(Out):
    """The process runs."""

    status: Literal["ok"] = "ok"


class ReadyOut(Out):
    """Can it take and finish work?"""

    ready: bool
    """Every check is true."""
    checks: dict[str, bool]
    """database, workers …"""
