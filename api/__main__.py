"""Start the server: `python -m api`."""

from __future__ import annotations

import signal
import socket
import sys

import structlog
import uvicorn

from api.app import create_app
from service import bootstrap
from service.config import load, unknown_variables

log = structlog.get_logger()

GRACE_SECONDS = 5
"""How long calls may go on once the server was told to stop."""


class Server(uvicorn.Server):
    """Says where it is once it answers."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then print the address: with port 0 nobody else knows it."""
        await super().startup(sockets)
        for listening in (one for server in self.servers for one in server.sockets):
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"graddx is at http://{shown}:{port}/docs", flush=True)  # noqa: T201


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    _log_to_stderr()
    for complaint in unknown_variables():
        log.warning(complaint)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again when it is done: then the workers are to be stopped too.
        signal.signal(number, lambda *_: sys.exit(0))
    settings = load()
    with bootstrap.engine(settings) as engine:
        config = uvicorn.Config(
            create_app(engine, settings),
            host=settings.host,
            port=settings.port,
            timeout_graceful_shutdown=GRACE_SECONDS,
            server_header=False,
        )
        Server(config).run()


def _log_to_stderr() -> None:
    """One JSON object a line, as the workers do."""
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


if __name__ == "__main__":
    main()
