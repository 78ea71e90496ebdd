"""The worker's side of a zygote: start it, have it fork, end it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from service.sandbox import linux
from service.sandbox.confine import Descriptors
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
from service.sandbox.limits import ENVIRONMENT, MIB

_GOODBYE_SECONDS = 2.0
_PROJECT_ROOT = Path(__file__).parents[2]
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from service.sandbox.zygote import main; main(int(sys.argv[2]))"
)


class ZygoteFailed(Exception):
    """The zygote could not start, or is gone."""


class Child:
    """A running child, known by its pidfd: unlike a pid it can never name another process."""

    def __init__(self, pidfd: int, zygote: Zygote) -> None:
        self._pidfd: int | None = pidfd
        self._zygote = zygote
        self._exited: Exited | None = None
        self._closing = threading.Lock()

    def kill(self) -> None:
        """End it now; may be called from any thread, at any time."""
        with self._closing, contextlib.suppress(ProcessLookupError):
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def wait(self, seconds: float) -> Exited:
        """How it ended. Raises TimeoutError while it lives, Closed when the zygote died too."""
        if self._exited is None:
            self._exited = self._zygote.await_exit(seconds)
        return self._exited

    def close(self) -> None:
        """Forget it; it should be dead."""
        with self._closing:
            if self._pidfd is not None:
                os.close(self._pidfd)
            self._pidfd = None


class Zygote:
    """A warm process that forks children, one at a time."""

    def __init__(self, start: Start, environment: Mapping[str, str] = ENVIRONMENT) -> None:
        """Start it, with this as its whole environment, and wait until it is warm. Raises
        ZygoteFailed."""
        self._start = start
        self._warmed: set[str] = set()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, str(_PROJECT_ROOT), str(theirs.fileno())],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # the terminal's Ctrl-C is the worker's to handle
            )
        try:
            self.unsealable = self._await_ready(start)
        except BaseException:
            self.close()
            raise

    def warm_up(self, entry: str) -> None:
        """Warm up further, once, while no child is at work. Raises ZygoteFailed, and then it is
        of no more use."""
        if entry not in self._warmed:
            self._await_ready(WarmUp(entry))
            self._warmed.add(entry)

    def grown_mb(self) -> float:
        """Resident memory gained since it was warm, MiB. Raises ZygoteFailed."""
        if self._process.poll() is not None:
            raise ZygoteFailed("it is gone")
        return self._resident_mb() - self._warm_mb

    def _resident_mb(self) -> float:
        try:
            return linux.resident_bytes(self._process.pid) / MIB
        except (OSError, IndexError) as error:
            raise ZygoteFailed("it is gone") from error

    def _await_ready(self, message: Start | WarmUp) -> str | None:
        """Why children cannot be sealed here; None: they are."""
        self._control.settimeout(self._start.limits.start_seconds)
        try:
            send(self._control, message)
            started, _ = receive(self._control, Started)
        except TimeoutError as error:
            raise ZygoteFailed("it was not ready in time") from error
        except Closed as error:
            raise ZygoteFailed("it died while starting") from error
        if started.failure is not None:
            raise ZygoteFailed(started.failure)
        self._warm_mb = self._resident_mb()
        return started.unsealable

    def fork(self, descriptors: Descriptors, *, gpu: bool = False) -> Child:
        """A new child that holds copies of the descriptors. Raises ZygoteFailed."""
        passed = [descriptors.channel, descriptors.output]
        if descriptors.model is not None:
            passed.append(descriptors.model)
        self._control.settimeout(self._start.limits.answer_seconds)
        try:
            send(self._control, Fork(descriptors.model is not None, gpu), passed)
            _, (pidfd,) = receive(self._control, Forked)
        except (Closed, TimeoutError) as error:
            raise ZygoteFailed("it did not fork") from error
        return Child(pidfd, self)

    def await_exit(self, seconds: float) -> Exited:
        """How the child ended. Raises TimeoutError while it lives, Closed when the zygote died."""
        self._control.settimeout(seconds)
        exited, _ = receive(self._control, Exited)
        return exited

    def close(self) -> None:
        """End the zygote, and with it its child. It goes by itself unless it hangs."""
        self._control.close()
        try:
            self._process.wait(_GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
