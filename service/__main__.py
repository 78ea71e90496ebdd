"""Start a worker: `python -m service`. With a broker it works on what that delivers; without one it
looks into the database, or is woken by the API that started it."""

from __future__ import annotations

import argparse
import signal
import sys

import structlog

from service import bootstrap
from service.config import load, unknown_variables

log = structlog.get_logger()


def main() -> None:
    """Work until SIGTERM, SIGINT, or the end of the dispatcher."""
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    parser.add_argument("--wake-fd", type=int, help="pipe of the process that starts workers")
    wake_fd = parser.parse_args().wake_fd
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    if wake_fd is None:
        # A worker of the API's would only repeat what the API has said.
        for complaint in unknown_variables():
            log.warning(complaint)
    settings = load()
    if wake_fd is None and settings.broker_url is not None:
        sys.exit(bootstrap.consume(settings))
    with bootstrap.worker(settings, wake_fd) as worker:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop())
        worker.run()


if __name__ == "__main__":
    main()
