"""A TCP proxy on loopback that can be cut and joined: a server away without being stopped."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class CuttableProxy:
    """Passes bytes on to an address while the block runs, unless it is cut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._pairs: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._open = True

    def cut(self) -> None:
        """End every connection, and refuse new ones."""
        with self._lock:
            self._open = False
            ended, self._pairs = self._pairs, set()
        for one in ended:
            _end(one)

    def join(self) -> None:
        """Pass on again."""
        with self._lock:
            self._open = True

    def __enter__(self) -> CuttableProxy:
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _end(self._listening)
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listening.accept()
            except OSError:
                return
            with self._lock:
                if not self._open:
                    _end(ours)
                    continue
                theirs = socket.create_connection(self._target)
                self._pairs |= {ours, theirs}
            for source, sink in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    _end(source)
    _end(sink)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
