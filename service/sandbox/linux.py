"""The few system calls that the standard library does not offer."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_NO_NEW_PRIVS = 38


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def prctl(option: int, argument: int) -> None:
    """prctl(2). Raises OSError."""
    no = ctypes.c_ulong(0)
    if _libc().prctl(ctypes.c_int(option), ctypes.c_ulong(argument), no, no, no) != 0:
        _raise_errno(f"prctl {option}")


def name_process(name: str) -> None:
    """What the kernel shows of this process, 15 bytes at most. Raises OSError."""
    text = ctypes.create_string_buffer(name.encode())
    prctl(PR_SET_NAME, ctypes.addressof(text))


def syscall(number: int, *arguments: object) -> int:
    """syscall(2); pass ctypes values where an int would be ambiguous. Raises OSError."""
    result = int(_libc().syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        _raise_errno(f"system call {number}")
    return result


def thread_count() -> int:
    """Threads of this process."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def address_space_bytes() -> int:
    """Size of this process's address space, what RLIMIT_AS counts."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int:
    """Memory of this process that is not swapped out, pages it shares included. Raises OSError,
    IndexError when it is gone."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _raise_errno(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{what}: {os.strerror(number)}")
