"""Start the server: `python -m api`. Keys for its callers: `python -m api keys`."""

from __future__ import annotations

import argparse
import signal
import socket
import sys

from service.importing import nothing_collected

with nothing_collected():
    import structlog
    import uvicorn

    from api import VERSION, keys
    from api.redaction import redact_event, redact_server_logs
    from service import bootstrap, logs
    from service.config import load, unknown_variables

log = structlog.get_logger()

GRACE_SECONDS = 5
"""How long calls may go on once the server was told to stop."""
EXIT_UNPROTECTED = 78
"""Exit status of a server that strangers could use (EX_CONFIG of sysexits.h)."""


class Server(uvicorn.Server):
    """Says where it is once it answers."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then print the addresses: with port 0 nobody else knows them."""
        await super().startup(sockets)
        for listening in (one for server in self.servers for one in server.sockets):
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            at = f"http://{shown}:{port}"
            print(  # noqa: T201
                f"graddx is at {at}/docs (its calls), {at}/ (to ask), {at}/guide/ (the docs)",
                flush=True,
            )


def main() -> None:
    """Serve, or see to the API keys."""
    parser = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    keys.add_commands(commands.add_parser("keys", help="make, list and revoke API keys"))
    asked = parser.parse_args()
    if asked.command == "keys":
        keys.run(asked)
    else:
        serve()


def serve() -> None:
    """Answer until SIGTERM or SIGINT."""
    logs.to_stderr(redact_event)
    for complaint in unknown_variables():
        log.warning(complaint)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again when it is done: then the workers are to be stopped too.
        signal.signal(number, lambda *_: sys.exit(0))
    settings = load()
    try:
        with bootstrap.engine(settings, VERSION) as engine:
            # Only here: the workers start meanwhile.
            with nothing_collected():
                from api.app import create_app

            config = uvicorn.Config(
                create_app(engine, settings),
                host=settings.host,
                port=settings.port,
                timeout_graceful_shutdown=GRACE_SECONDS,
                server_header=False,
                log_config=None,  # as everybody else here
                log_level="info",
            )
            redact_server_logs()
            Server(config).run()
    except bootstrap.Unprotected as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_UNPROTECTED)


if __name__ == "__main__":
    main()
