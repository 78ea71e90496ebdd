"""seccomp: the system calls that computing needs, and no others.

An allowlist as a classic BPF program (seccomp(2), https://docs.kernel.org/userspace-api/
seccomp_filter.html). What is not on it fails with EPERM, so that a library that merely asks goes
on; a foreign calling convention, which only an attack would use, ends the process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from service.sandbox import linux


@dataclass(frozen=True, slots=True)
class Architecture:
    """One instruction set's calling convention."""

    audit: int
    """AUDIT_ARCH_* of seccomp_data.arch."""
    seccomp: int
    """Number of seccomp(2)."""
    numbers: dict[str, int]
    """Number of every call named below; a call this architecture lacks is absent."""


FREE = (
    # The three descriptors.
    "read", "write", "readv", "writev", "pread64", "pwrite64", "lseek", "close", "fstat",
    "ftruncate", "fsync", "dup", "poll", "ppoll",
    # Memory, its own. Executable memory too: kernels of linear algebra are compiled on the fly.
    "mmap", "munmap", "mprotect", "mremap", "madvise", "brk",
    # Threads, its own, and waiting.
    "futex", "set_robust_list", "rseq", "set_tid_address", "membarrier", "sched_yield",
    "sched_getaffinity", "nanosleep", "clock_nanosleep", "restart_syscall",
    # Signals to itself: how they are handled. They are sent by tgkill, below.
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",
    # What time, who, where, how much.
    "clock_gettime", "clock_getres", "gettimeofday", "time", "getpid", "gettid", "getppid",
    "getrusage", "getrlimit", "getcpu", "sysinfo", "getrandom",
    "exit", "exit_group",
)  # fmt: skip
"""Calls that are allowed whatever their arguments.

Left out with intent: whatever takes a path (open, stat, exec …), makes a descriptor (socket, pipe,
memfd_create, io_uring, bpf, userfaultfd, pidfd …) or a process (fork, vfork), reaches another
process (ptrace, process_vm_*, kill, sched_set*, setpriority) or the kernel's odd corners (keyctl,
mount, ioctl, perf_event_open); and sendmsg, recvmsg, which pass descriptors.
"""

FOR_GPU = {
    "x86_64": {
        "open": 2, "stat": 4, "lstat": 6, "ioctl": 16, "access": 21, "mincore": 27, "uname": 63,
        "readlink": 89, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108,
        "mlock": 149, "munlock": 150, "getdents64": 217, "epoll_wait": 232, "epoll_ctl": 233,
        "openat": 257, "newfstatat": 262, "readlinkat": 267, "faccessat": 269, "eventfd2": 290,
        "epoll_create1": 291, "pipe2": 293, "statx": 332, "faccessat2": 439,
    },
    "aarch64": {
        "eventfd2": 19, "epoll_create1": 20, "epoll_ctl": 21, "ioctl": 29, "faccessat": 48,
        "openat": 56, "pipe2": 59, "getdents64": 61, "readlinkat": 78, "newfstatat": 79,
        "uname": 160, "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177, "mlock": 228,
        "munlock": 229, "mincore": 232, "statx": 291, "faccessat2": 439,
    },
}  # fmt: skip
"""What CUDA's driver calls besides, whatever the arguments: Landlock tells which files. Still no
socket, no process, no other process."""

_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020000 | 0x00000080
"""CLONE_NEW(CGROUP, UTS, IPC, USER, PID, NET), CLONE_NEWNS, CLONE_NEWTIME."""
_FCNTL_COMMANDS = (0, 1, 2, 3, 1030)
"""F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC; not F_SETOWN, which sends signals."""
_PRCTL_OPTIONS = (15, 16, 0x53564D41)
"""PR_SET_NAME, PR_GET_NAME, PR_SET_VMA: naming a thread or its memory."""

X86_64 = Architecture(
    audit=0xC000003E,
    seccomp=317,
    numbers={
        "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9,
        "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14,
        "rt_sigreturn": 15, "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20,
        "sched_yield": 24, "mremap": 25, "madvise": 28, "dup": 32, "nanosleep": 35, "getpid": 39,
        "clone": 56, "exit": 60, "fcntl": 72, "fsync": 74, "ftruncate": 77, "gettimeofday": 96,
        "getrlimit": 97, "getrusage": 98, "sysinfo": 99, "getppid": 110, "sigaltstack": 131,
        "prctl": 157, "gettid": 186, "time": 201, "futex": 202,
        "sched_getaffinity": 204, "set_tid_address": 218, "restart_syscall": 219,
        "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231,
        "tgkill": 234, "ppoll": 271, "set_robust_list": 273, "prlimit64": 302, "getcpu": 309,
        "getrandom": 318, "membarrier": 324, "rseq": 334, "clone3": 435,
    },
)  # fmt: skip
AARCH64 = Architecture(
    audit=0xC00000B7,
    seccomp=277,
    numbers={
        "dup": 23, "fcntl": 25, "ftruncate": 46, "close": 57, "lseek": 62, "read": 63, "write": 64,
        "readv": 65, "writev": 66, "pread64": 67, "pwrite64": 68, "ppoll": 73, "fstat": 80,
        "fsync": 82, "exit": 93, "exit_group": 94, "set_tid_address": 96, "futex": 98,
        "set_robust_list": 99, "nanosleep": 101, "clock_gettime": 113, "clock_getres": 114,
        "clock_nanosleep": 115, "sched_getaffinity": 123, "sched_yield": 124,
        "restart_syscall": 128, "tgkill": 131, "sigaltstack": 132, "rt_sigaction": 134,
        "rt_sigprocmask": 135, "rt_sigreturn": 139, "getrlimit": 163,
        "getrusage": 165, "prctl": 167, "getcpu": 168, "gettimeofday": 169, "getpid": 172,
        "getppid": 173, "gettid": 178, "sysinfo": 179, "brk": 214, "munmap": 215, "mremap": 216,
        "clone": 220, "mmap": 222, "mprotect": 226, "madvise": 233, "prlimit64": 261,
        "getrandom": 278, "membarrier": 283, "rseq": 293, "clone3": 435,
    },
)  # fmt: skip
_ARCHITECTURES = {"x86_64": X86_64, "aarch64": AARCH64}

# struct seccomp_data { int nr; u32 arch; u64 instruction_pointer; u64 args[6]; }, little-endian.
_NUMBER_AT = 0
_ARCH_AT = 4
_ARGUMENTS_AT = 16
_X32_BIT = 0x40000000

# Classic BPF operation codes (linux/bpf_common.h) and seccomp's answers (linux/seccomp.h).
_LOAD = 0x20
_JUMP_EQUAL = 0x15
_JUMP_GREATER_OR_EQUAL = 0x35
_JUMP_ANY_BIT = 0x45
_RETURN = 0x06
_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
_ALLOW = 0x7FFF0000

_SET_MODE_FILTER = 1
_FILTER_FLAG_TSYNC = 1

NOTHING_MORE: Mapping[str, int] = MappingProxyType({})
Instruction = tuple[int, int, int, int]
"""code, jump if true, jump if false, operand."""


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def allow_computing_only(*, gpu: bool = False) -> None:
    """Filter every thread of this process for good; `gpu`: what its driver calls goes on. Needs
    PR_SET_NO_NEW_PRIVS. Raises OSError."""
    architecture = this_architecture()
    more = FOR_GPU[os.uname().machine] if gpu else {}
    install(architecture, program(architecture, os.getpid(), more))


def this_architecture() -> Architecture:
    """Of this machine. Raises OSError where no table is written for it."""
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no system call filter is written for {machine}")
    return _ARCHITECTURES[machine]


def install(architecture: Architecture, instructions: Sequence[Instruction]) -> None:
    """Filter every thread of this process for good with this program. Raises OSError."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    unfiltered = linux.syscall(
        architecture.seccomp,
        ctypes.c_uint(_SET_MODE_FILTER),
        ctypes.c_uint(_FILTER_FLAG_TSYNC),
        ctypes.byref(_Program(len(instructions), code)),
    )
    if unfiltered != 0:
        raise OSError(errno.EBUSY, f"thread {unfiltered} could not be filtered")


def program(
    architecture: Architecture, pid: int, more: Mapping[str, int] = NOTHING_MORE
) -> list[Instruction]:
    """The filter for a process of this id; `more`: numbers of further calls that are free."""
    numbers = architecture.numbers
    rules = [
        *(_rule(numbers[name], [_answer(_ALLOW)]) for name in FREE if name in numbers),
        *(_rule(number, [_answer(_ALLOW)]) for number in more.values()),
        _rule(numbers["clone"], _threads_only()),
        # Its flags lie in memory, where a filter cannot look; without it libc falls back to clone.
        _rule(numbers["clone3"], [_answer(_ERRNO | errno.ENOSYS)]),
        _rule(numbers["tgkill"], _if_first_argument_in([pid])),
        _rule(numbers["fcntl"], _if_argument_in(1, _FCNTL_COMMANDS)),
        _rule(numbers["prctl"], _if_first_argument_in(_PRCTL_OPTIONS)),
        _rule(numbers["prlimit64"], _reading_only()),
    ]
    return [
        *_known_convention(architecture),
        *(instruction for rule in rules for instruction in rule),
        _answer(_ERRNO | errno.EPERM),
    ]


def _known_convention(architecture: Architecture) -> list[Instruction]:
    """End the process on 32-bit or x32 calls, whose numbers mean other things."""
    return [
        (_LOAD, 0, 0, _ARCH_AT),
        (_JUMP_EQUAL, 1, 0, architecture.audit),
        _answer(_KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_JUMP_GREATER_OR_EQUAL, 0, 1, _X32_BIT),
        _answer(_KILL_PROCESS),
    ]


def _rule(number: int, decision: Sequence[Instruction]) -> list[Instruction]:
    """If the call has this number, decide: every decision ends in an answer."""
    return [(_JUMP_EQUAL, 0, len(decision), number), *decision]


def _threads_only() -> list[Instruction]:
    """clone makes a thread of this process, in no new namespace."""
    return [
        _load_argument(0),
        (_JUMP_ANY_BIT, 1, 0, _CLONE_NAMESPACES),
        (_JUMP_ANY_BIT, 1, 0, _CLONE_THREAD),
        _answer(_ERRNO | errno.EPERM),
        _answer(_ALLOW),
    ]


def _reading_only() -> list[Instruction]:
    """prlimit64 of this process (0) without new limits (a null pointer, both halves)."""
    return [
        _load_argument(0),
        (_JUMP_EQUAL, 0, 5, 0),
        _load_argument(2),
        (_JUMP_EQUAL, 0, 3, 0),
        (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * 2 + 4),
        (_JUMP_EQUAL, 0, 1, 0),
        _answer(_ALLOW),
        _answer(_ERRNO | errno.EPERM),
    ]


def _if_first_argument_in(allowed: Sequence[int]) -> list[Instruction]:
    return _if_argument_in(0, allowed)


def _if_argument_in(index: int, allowed: Sequence[int]) -> list[Instruction]:
    """The argument's low half is one of these: the kernel takes all of them as ints."""
    jumps = [
        (_JUMP_EQUAL, len(allowed) - position, 0, value) for position, value in enumerate(allowed)
    ]
    return [
        _load_argument(index),
        *jumps,
        _answer(_ERRNO | errno.EPERM),
        _answer(_ALLOW),
    ]


def _load_argument(index: int) -> Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * index)


def _answer(action: int) -> Instruction:
    return (_RETURN, 0, 0, action)
