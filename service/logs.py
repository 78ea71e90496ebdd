"""Logs: one JSON object a line on stderr, whoever says it."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor


def to_stderr(*last: Processor) -> None:
    """From now on in this process. `last`: processors that see every event whole, of libraries
    too, before it is written."""
    first: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    written: list[Processor] = [
        structlog.processors.format_exc_info,
        *last,
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=[*first, *written],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *written],
            foreign_pre_chain=[*first, structlog.stdlib.add_logger_name],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.captureWarnings(True)
