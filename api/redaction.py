"""No API key in a log: where one strays into an address or a message, its secret is cut out."""

from __future__ import annotations

import logging
from typing import Any

from structlog.typing import EventDict, WrappedLogger

from service.domain.api_keys import without_secrets

SERVER_LOGS = ("uvicorn", "uvicorn.access", "uvicorn.error")


def redact_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """structlog processor, after the one that writes exceptions out."""
    return {name: _cleaned(value) for name, value in event.items()}


def redact_server_logs() -> None:
    """What uvicorn writes of each request, its query included."""
    for name in SERVER_LOGS:
        logging.getLogger(name).addFilter(_Redacting())


class _Redacting(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = _cleaned(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(map(_cleaned, record.args))
        return True


def _cleaned(value: Any) -> Any:
    return without_secrets(value) if isinstance(value, str) else value
