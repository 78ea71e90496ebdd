"""The real child, which tells before it exports what it had to import after the fork."""

from __future__ import annotations

import json
import sys

from service import probe_protocol
from service.probing import child

warm_up = child.warm_up


def serve(model_fd: int | None, channel_fd: int, output_fd: int) -> None:
    """As `service.probing.child.serve`, but an export is answered with the new modules."""
    known = set(sys.modules)
    encode = probe_protocol.encode

    def telling(message: probe_protocol.Ask | probe_protocol.Reply) -> bytes:
        if isinstance(message, probe_protocol.Exported):
            new = sorted(set(sys.modules) - known)
            message = probe_protocol.Failed("internal_error", json.dumps(new))
        return encode(message)

    probe_protocol.encode = telling
    child.serve(model_fd, channel_fd, output_fd)
