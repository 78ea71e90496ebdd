"""A child whose model has taken over the process: it asks the kernel directly for what it wants."""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from service.probe_protocol import Opened
from tests.integration.sandbox_children import opened, receive, send


def warm_up() -> None:
    """So that what is tried fails in the kernel, not on an import."""
    fork_by_libc()


def serve(model_fd: int | None, channel: int, output: int) -> None:
    """Answer one message with what succeeded. The model's bytes name the folder to harm."""
    receive(channel)
    folder = Path(os.pread(model_fd, 4096, 0).decode()) if model_fd is not None else Path("/tmp")
    send(channel, report(folder))


def report(folder: Path) -> Opened:
    outcomes = {name: outcome(attempt) for name, attempt in attempts(folder).items()}
    outcomes["read a file in a thread made later"] = in_thread(read_a_file)
    return opened(json.dumps(outcomes))


def outcome(attempt: Callable[[], object]) -> str:
    """The error's name, or what came of it."""
    try:
        return f"came through: {attempt()!r}"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))


def in_thread(attempt: Callable[[], object]) -> str:
    outcomes: list[str] = []
    thread = threading.Thread(target=lambda: outcomes.append(outcome(attempt)))
    thread.start()
    thread.join()
    return outcomes[0]


def read_a_file() -> bytes:
    return Path("/etc/passwd").read_bytes()


def fork_by_libc() -> str:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "a process"


def connect(kind: socket.AddressFamily, address: str | tuple[str, int]) -> None:
    with socket.socket(kind) as connection:
        connection.connect(address)


def send_descriptors() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.sendmsg(4, None, 0) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return 0


def attempts(folder: Path) -> dict[str, Callable[[], object]]:
    """By name, through libc; the raw numbers are tried in test_seal.py.

    `victim` in this folder must stay as it is, `loot` must not come to be.
    """
    victim, loot = folder / "victim", folder / "loot"
    return {
        "read a file": read_a_file,
        "read the model again, for writing": lambda: os.open("/proc/self/fd/3", os.O_RDWR),
        "read its memory map": lambda: Path("/proc/self/maps").read_bytes(),
        "read its parent's environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "list a folder": lambda: list(Path("/").iterdir()),
        "see a file": lambda: Path("/etc/passwd").stat(),
        "write a file": lambda: loot.write_bytes(b"x"),
        "overwrite a file": lambda: victim.write_bytes(b""),
        "remove a file": victim.unlink,
        "rename a file": lambda: victim.rename(loot),
        "link a file": lambda: loot.hardlink_to(victim),
        "link to a file": lambda: loot.symlink_to(victim),
        "change a mode": lambda: victim.chmod(0o666),
        "truncate a file": lambda: os.truncate(victim, 0),
        "make a folder": loot.mkdir,
        "change folder": lambda: os.chdir("/tmp"),
        "make a memory file": lambda: os.memfd_create("loot"),
        "make a pipe": os.pipe,
        "make a socket": socket.socket,
        "make a unix socket": lambda: socket.socket(socket.AF_UNIX),
        "make a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "make a socket pair": socket.socketpair,
        "connect": lambda: connect(socket.AF_INET, ("127.0.0.1", 80)),
        "pass descriptors": send_descriptors,
        "run a program": lambda: os.execv("/bin/true", ["true"]),
        "fork": fork_by_libc,
        "run a shell": lambda: os.posix_spawn("/bin/sh", ["sh", "-c", "true"], {}),
        "signal its parent": lambda: os.kill(os.getppid(), 0),
        "signal its group": lambda: os.killpg(0, signal.SIGCONT),
        "hold its parent": lambda: os.pidfd_open(os.getppid()),
        "be nicer": lambda: os.nice(1),
        "leave its cpu": lambda: os.sched_setaffinity(0, {0}),
        "change its user": lambda: os.setuid(os.getuid()),
        "begin a session": os.setsid,
    }


ALLOWED: dict[str, Callable[[], object]] = {
    "memory": lambda: mmap.mmap(-1, 4096).close(),
    "threads": lambda: in_thread(os.getpid),
    "the clock": os.times,
}
