"""The warm process: imports and warms up once, then forks one confined child per analysis.

Run by `launcher` in a fresh interpreter. It ends with its worker (its control socket closes), and
its child ends with it. As soon as one child begins the next one is forked, and waits (`spare`).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import resource
import select
import signal
import socket
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from service.domain.errors import InternalError
from service.importing import nothing_collected
from service.probe_protocol import Failed, encode
from service.sandbox import linux
from service.sandbox.confine import CHANNEL_FD, MODEL_FD, OUTPUT_FD, Descriptors, confine
from service.sandbox.control import (
    Closed,
    Exited,
    Fork,
    Forked,
    Start,
    Started,
    WarmUp,
    receive,
    send,
)
from service.sandbox.limits import MIB, Limits
from service.sandbox.seal import seal, why_unsealable
from service.sandbox.spare import Spare

Serve = Callable[[int | None, int, int], None]
"""A child's life: (model_fd, channel_fd, output_fd); returns when the channel closes."""

EXIT_RAISED = 70
"""`serve` raised (EX_SOFTWARE)."""
EXIT_OUT_OF_MEMORY = 71
"""`serve` raised MemoryError."""
EXIT_UNCONFINED = 72
"""The child could not be confined or sealed, and so never began."""

NAME = "graddx-zygote"
"""What `ps` shows of it, and of a child that waits."""
_ZYGOTE_OPEN_FILES = 64
"""Enough to import; low, so that a child has few numbers to close."""
_DETAIL_CHARS = 4000
_LOOK_MILLISECONDS = 200
"""Between two looks at the memory of a child on a GPU."""


def main(control_fd: int) -> NoReturn:
    """Warm up, then fork on request until the worker is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    linux.name_process(NAME)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_ZYGOTE_OPEN_FILES, _ZYGOTE_OPEN_FILES))
    with socket.socket(fileno=control_fd) as control, contextlib.suppress(Closed):
        _serve_forks(control)
    os._exit(0)  # finalizing everything that was imported would only take time


def _serve_forks(control: socket.socket) -> None:
    start, _ = receive(control, Start)
    limits = start.limits
    with _warming(control, limits):
        with nothing_collected():
            serve: Serve = _named(start.entry)
            rehearse = _named(start.rehearse) if start.rehearse else _nothing
        _warm(start.warm_up)
        unsealable = why_unsealable()
    live = partial(_live, os.getpid(), serve, limits, sealed=unsealable is None)
    another = partial(Spare.forked, control, rehearse, live)
    spare = another()
    send(control, Started(unsealable=unsealable))
    while True:
        request, received = receive(control, (WarmUp, Fork))
        if isinstance(request, Fork):
            spare = _let_live(control, request, received, spare, another, limits)
        elif isinstance(request, WarmUp):
            spare.discard()
            _bury(spare.pid)
            with _warming(control, limits):
                _warm(request.warm_up)
            spare = another()
            send(control, Started(unsealable=unsealable))


@contextlib.contextmanager
def _warming(control: socket.socket, limits: Limits) -> Iterator[None]:
    """Whatever happens meanwhile, also the worker's death, the zygote does not stay: what fails is
    told, and Closed raised."""
    signal.alarm(limits.start_seconds)
    try:
        yield
    except BaseException as error:
        send(control, Started(failure=traceback.format_exc()[-_DETAIL_CHARS:]))
        raise Closed from error
    signal.alarm(0)


def _warm(warm_up: str) -> None:
    _named(warm_up)()
    threads = linux.thread_count()
    if threads != 1:
        raise RuntimeError(f"the warm-up left {threads} threads; children would escape the seal")
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page of the zygote's objects


def _nothing() -> None:
    pass


def _named(entry: str) -> Callable[..., None]:
    module, _, function = entry.partition(":")
    found: Callable[..., None] = getattr(importlib.import_module(module), function)
    return found


def _let_live(
    control: socket.socket,
    request: Fork,
    received: Sequence[int],
    spare: Spare,
    another: Callable[[], Spare],
    limits: Limits,
) -> Spare:
    """One child from its descriptors to its burial; returns the next one, which waits. Raises
    Closed, and then no child is left."""
    if not spare.takes(request, received):  # it died while it waited
        _bury(spare.pid)
        spare = another()
        spare.takes(request, received)
    for descriptor in received:
        os.close(descriptor)
    pidfd = os.pidfd_open(spare.pid)
    try:
        send(control, Forked(), [pidfd])
        following = another()
        overgrown = _await_end(control, pidfd, spare.pid if request.gpu else None, limits)
    finally:
        os.close(pidfd)
        exited = _bury(spare.pid)
    send(control, Exited(EXIT_OUT_OF_MEMORY, exited.cpu_seconds) if overgrown else exited)
    return following


def _live(
    zygote: int,
    serve: Serve,
    limits: Limits,
    request: Fork,
    received: Sequence[int],
    *,
    sealed: bool,
) -> NoReturn:
    channel, output, *model = received
    descriptors = Descriptors(channel, output, model[0] if request.has_model else None)
    status = EXIT_UNCONFINED
    try:
        confine(zygote, descriptors, limits, gpu=request.gpu)
        if sealed:
            seal(gpu=request.gpu)
        status = EXIT_RAISED
        serve(MODEL_FD if descriptors.model is not None else None, CHANNEL_FD, OUTPUT_FD)
        status = 0
    except MemoryError:
        status = EXIT_OUT_OF_MEMORY
    except Exception as error:
        if status == EXIT_RAISED:
            _tell(error)
    finally:
        os._exit(status)


def _tell(error: Exception) -> None:
    """Last words of a child that nobody foresaw: what was raised, and where."""
    *_, last = traceback.extract_tb(error.__traceback__)
    where = f"{Path(last.filename).name}:{last.lineno}"
    said = Failed(InternalError.code, f"{type(error).__name__}: {error} ({where})")
    os.write(CHANNEL_FD, encode(said))


def _await_end(control: socket.socket, pidfd: int, watched: int | None, limits: Limits) -> bool:
    """Wait for the child's end; `watched`: its number, where no limit of the kernel's bounds its
    memory. True when it holds more than it may. Raises Closed when the worker goes first."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(control, select.POLLIN)
    while not (ready := {descriptor for descriptor, _ in poll.poll(_LOOK_MILLISECONDS)}):
        with contextlib.suppress(OSError, IndexError):  # it ends just now
            held = 0 if watched is None else linux.resident_bytes(watched)
            if held > limits.memory_mb * MIB:
                return True
    if pidfd not in ready:
        raise Closed
    return False


def _bury(pid: int) -> Exited:
    """End the child's whole session, if there is anything left of it, and reap the child."""
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):  # it had no time to begin a session
        os.killpg(pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
    _, status, usage = os.wait4(pid, 0)
    return Exited(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime)
