"""A child forked ahead of its analysis: forking and the first writes to what it shares with the
zygote cost as much as loading a small model, and need not be waited for.

It is not sealed yet and holds nothing: it waits for its descriptors, and does then what every child
does first.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from service.sandbox.confine import die_with
from service.sandbox.control import Closed, Fork, receive, send

Live = Callable[[Fork, Sequence[int]], NoReturn]
"""A child's life from its descriptors to its end."""


@dataclass(frozen=True, slots=True)
class Spare:
    """As the zygote knows it."""

    pid: int
    line: socket.socket
    """Where it waits for the descriptors."""

    @classmethod
    def forked(cls, control: socket.socket, rehearse: Callable[[], None], live: Live) -> Spare:
        """A new one. It closes its copy of `control`, does what `rehearse` does, and waits."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        zygote = os.getpid()
        pid = os.fork()
        if pid == 0:
            control.close()
            ours.close()
            _wait(zygote, theirs, rehearse, live)
        theirs.close()
        return cls(pid, ours)

    def takes(self, request: Fork, descriptors: Sequence[int]) -> bool:
        """Let it begin, with copies of the descriptors; False: it is dead."""
        with self.line:
            try:
                send(self.line, request, descriptors)
            except Closed:
                return False
        return True

    def discard(self) -> None:
        """It will not be asked, and is to be buried."""
        self.line.close()


def _wait(zygote: int, line: socket.socket, rehearse: Callable[[], None], live: Live) -> NoReturn:
    try:
        die_with(zygote)
        with contextlib.suppress(Exception):  # it spares time and does nothing else
            rehearse()
        with line:
            request, received = receive(line, Fork)
    except BaseException:
        os._exit(0)  # nobody has asked anything of it
    live(request, received)
