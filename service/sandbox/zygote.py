"""The warm process: imports and warms up once, then forks one confined child per analysis.

Run by `launcher` in a fresh interpreter. It ends with its worker (its control socket closes), and
its child ends with it.
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
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from service.domain.errors import InternalError
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
    receive,
    send,
)
from service.sandbox.limits import MIB, Limits
from service.sandbox.seal import seal, why_unsealable

Serve = Callable[[int | None, int, int], None]
"""A child's life: (model_fd, channel_fd, output_fd); returns when the channel closes."""

EXIT_RAISED = 70
"""`serve` raised (EX_SOFTWARE)."""
EXIT_OUT_OF_MEMORY = 71
"""`serve` raised MemoryError."""
EXIT_UNCONFINED = 72
"""The child could not be confined or sealed, and so never began."""

_ZYGOTE_OPEN_FILES = 64
"""Enough to import; low, so that a child has few numbers to close."""
_DETAIL_CHARS = 4000
_LOOK_MILLISECONDS = 200
"""Between two looks at the memory of a child on a GPU."""


def main(control_fd: int) -> NoReturn:
    """Warm up, then fork on request until the worker is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_ZYGOTE_OPEN_FILES, _ZYGOTE_OPEN_FILES))
    with socket.socket(fileno=control_fd) as control, contextlib.suppress(Closed):
        _serve_forks(control)
    os._exit(0)  # finalizing everything that was imported would only take time


def _serve_forks(control: socket.socket) -> None:
    start, _ = receive(control, Start)
    # Whatever happens while warming up, also the worker's death, the zygote does not stay.
    signal.alarm(start.limits.start_seconds)
    try:
        serve = _warmed(start)
        unsealable = why_unsealable()
    except BaseException:
        send(control, Started(failure=traceback.format_exc()[-_DETAIL_CHARS:]))
        return
    signal.alarm(0)
    send(control, Started(unsealable=unsealable))
    while True:
        _fork_one(control, serve, start.limits, sealed=unsealable is None)


def _warmed(start: Start) -> Serve:
    serve: Serve = _named(start.entry)
    _named(start.warm_up)()
    threads = linux.thread_count()
    if threads != 1:
        raise RuntimeError(f"the warm-up left {threads} threads; children would escape the seal")
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page of the zygote's objects
    return serve


def _named(entry: str) -> Callable[..., None]:
    module, _, function = entry.partition(":")
    found: Callable[..., None] = getattr(importlib.import_module(module), function)
    return found


def _fork_one(control: socket.socket, serve: Serve, limits: Limits, *, sealed: bool) -> None:
    """One child from request to burial. Raises Closed, and then no child is left."""
    request, received = receive(control, Fork)
    channel, output, *rest = received
    descriptors = Descriptors(channel, output, rest[0] if request.has_model else None)
    zygote = os.getpid()
    pid = os.fork()
    if pid == 0:
        _live(zygote, descriptors, serve, limits, sealed=sealed, gpu=request.gpu)
    for descriptor in received:
        os.close(descriptor)
    pidfd = os.pidfd_open(pid)
    try:
        send(control, Forked(), [pidfd])
        overgrown = _await_end(control, pidfd, pid if request.gpu else None, limits)
    finally:
        os.close(pidfd)
        exited = _bury(pid)
    send(control, Exited(EXIT_OUT_OF_MEMORY, exited.cpu_seconds) if overgrown else exited)


def _live(
    zygote: int,
    descriptors: Descriptors,
    serve: Serve,
    limits: Limits,
    *,
    sealed: bool,
    gpu: bool,
) -> NoReturn:
    status = EXIT_UNCONFINED
    try:
        confine(zygote, descriptors, limits, gpu=gpu)
        if sealed:
            seal(gpu=gpu)
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
