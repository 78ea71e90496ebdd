"""Start a worker: `python -m service`. With a broker it works on what that delivers; without one it
looks into the database, or is woken by the API that started it.

`--each-gpu` starts one worker for each GPU. `python -m service prune --days N` deletes what is old.
"""

from __future__ import annotations

import argparse
import signal
import sys

from service.importing import nothing_collected

with nothing_collected():
    import structlog

    from service import bootstrap, logs
    from service.config import Settings, load, unknown_variables
    from service.dispatch.devices import visible_gpus
    from service.dispatch.each_gpu import EachGpu

log = structlog.get_logger()


def main() -> None:
    """Work until SIGTERM, SIGINT, or the end of the dispatcher; or prune."""
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    parser.add_argument("--wake-fd", type=int, help="pipe of the process that starts workers")
    parser.add_argument("--each-gpu", action="store_true", help="one worker for each GPU")
    commands = parser.add_subparsers(dest="command")
    prune = commands.add_parser("prune", help="delete final analyses that are old")
    prune.add_argument("--days", type=float, required=True, help="older than so many days")
    prune.add_argument("--layers-only", action="store_true", help="only their per-layer statistics")
    asked = parser.parse_args()
    logs.to_stderr()
    if asked.wake_fd is None:
        # A worker of the API's would only repeat what the API has said.
        for complaint in unknown_variables():
            log.warning(complaint)
    settings = load()
    if asked.command == "prune":
        if asked.days < 0:
            parser.error("--days: not negative")
        pruned = bootstrap.prune(settings, asked.days, layers_only=asked.layers_only)
        print(pruned)  # noqa: T201 - the answer
    elif asked.each_gpu:
        _each_gpu()
    elif asked.wake_fd is None and settings.broker_url is not None:
        sys.exit(bootstrap.consume(settings))
    else:
        _work(settings, asked.wake_fd)


def _work(settings: Settings, wake_fd: int | None) -> None:
    with bootstrap.worker(settings, wake_fd) as worker:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop())
        worker.run()


def _each_gpu() -> None:
    gpus = visible_gpus()
    if not gpus:
        sys.exit("--each-gpu: there is no GPU, or no nvidia-smi to ask")
    workers = EachGpu(gpus)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: workers.stop())
    workers.run()


if __name__ == "__main__":
    main()
