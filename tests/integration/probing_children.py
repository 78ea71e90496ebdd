"""The real child, with one thing changed."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

from service import probe_protocol
from service.domain.measurements import Trial
from service.probing import child
from service.probing.session import Session

warm_up = child.warm_up


def serve(model_fd: int | None, channel_fd: int, output_fd: int) -> None:
    """An export is answered with the modules that had to be imported after the fork."""
    known = set(sys.modules)
    encode = probe_protocol.encode

    def telling(message: probe_protocol.Ask | probe_protocol.Told) -> bytes:
        if isinstance(message, probe_protocol.Exported):
            new = sorted(set(sys.modules) - known)
            message = probe_protocol.Failed("internal_error", json.dumps(new))
        return encode(message)

    probe_protocol.encode = telling
    child.serve(model_fd, channel_fd, output_fd)


def serve_and_tell_what_it_took(model_fd: int | None, channel_fd: int, output_fd: int) -> None:
    """A failure tells how far memory has grown since the fork."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    encode = probe_protocol.encode

    def telling(message: probe_protocol.Ask | probe_protocol.Told) -> bytes:
        if isinstance(message, probe_protocol.Failed):
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
            message = probe_protocol.Failed(message.code, f"{message.detail}; grown by {grown} MiB")
        return encode(message)

    probe_protocol.encode = telling
    child.serve(model_fd, channel_fd, output_fd)


def serve_but_train_for_ever(model_fd: int | None, channel_fd: int, output_fd: int) -> None:
    """A short training does not end."""

    def trial(
        self: Session,
        changes: tuple[Mapping[str, Any], ...] = (),
        *,
        rates: Mapping[str, float] | None = None,
        seconds: float | None = None,
    ) -> Trial:
        time.sleep(600)
        raise AssertionError(self, changes, rates, seconds)

    Session.trial = trial  # type: ignore[method-assign]
    child.serve(model_fd, channel_fd, output_fd)
