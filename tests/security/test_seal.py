"""Landlock and seccomp, alone and together, against a process that does not cooperate."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import re
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from service.domain.architecture import Architecture, Sample
from service.domain.model_source import ArtifactSource, SpecSource
from service.domain.probe_plan import ProbePlan
from service.sandbox import landlock, linux, seccomp
from service.sandbox.limits import Limits
from service.sandbox.prober import ZygoteProber
from service.sandbox.seal import seal, why_unsealable
from tests.security import hostile_children

UNSEALABLE = why_unsealable()
pytestmark = pytest.mark.skipif(UNSEALABLE is not None, reason=f"cannot seal here: {UNSEALABLE}")
x86_64_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="raw numbers of x86_64")


def run_behind(wall: Callable[[], None], act: Callable[[], str]) -> str:
    """What `act` says in a process of its own, behind this wall; or how the process ended."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
            wall()
            os.write(writer, act().encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    return said or f"ended by {os.waitstatus_to_exitcode(status)}"


def trying(attempt: Callable[[], object]) -> Callable[[], str]:
    return lambda: hostile_children.outcome(attempt)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a file to harm, and a model that names the folder."""
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "victim").chmod(0o600)
    (tmp_path / "model").write_text(str(tmp_path))
    return tmp_path


def test_nothing_a_hostile_child_tries_comes_through(folder: Path) -> None:
    prober = ZygoteProber(
        Limits(wall_seconds=30, memory_mb=256),
        "tests.security.hostile_children:serve",
        "tests.security.hostile_children:warm_up",
        lambda _: folder / "model",
    )
    try:
        with prober.open(ArtifactSource("sha256:1", "torchscript"), ProbePlan()) as session:
            outcomes = json.loads(session.facts.format)
    finally:
        prober.close()
    assert set(outcomes) > set(hostile_children.attempts(folder))
    assert {name: said for name, said in outcomes.items() if said not in ("EPERM", "EACCES")} == {}
    assert (folder / "victim").read_bytes() == b"precious"
    assert (folder / "victim").stat().st_mode & 0o777 == 0o600
    assert not (folder / "loot").exists()


def test_the_same_attempts_succeed_without_the_seal(folder: Path) -> None:
    """Else the test above would prove nothing."""
    harmless = ["read a file", "list a folder", "make a socket", "fork", "signal its parent"]
    for name in harmless:
        said = run_behind(lambda: None, trying(hostile_children.attempts(folder)[name]))
        assert said.startswith("came through"), name


def test_what_computing_needs_stays_allowed() -> None:
    for name, attempt in hostile_children.ALLOWED.items():
        said = run_behind(seal, trying(attempt))
        assert said.startswith("came through"), (name, said)


# Landlock alone: a hole in the list of calls would still lead nowhere.


@pytest.mark.parametrize(
    "name",
    [
        "read a file",
        "read the model again, for writing",
        "read its memory map",
        "list a folder",
        "write a file",
        "overwrite a file",
        "remove a file",
        "rename a file",
        "link a file",
        "link to a file",
        "truncate a file",
        "make a folder",
        "run a program",
    ],
)
def test_landlock_alone_keeps_files_away(folder: Path, name: str) -> None:
    with (folder / "model").open("rb") as file:

        def act() -> str:
            os.dup2(file.fileno(), 3)
            return hostile_children.outcome(hostile_children.attempts(folder)[name])

        # Across folders Landlock answers EXDEV, as if they were on two disks.
        assert run_behind(landlock.deny_everything, act) in ("EACCES", "EXDEV")


@pytest.mark.skipif(UNSEALABLE is not None or landlock.abi() < 4, reason="Landlock knows no TCP")
def test_landlock_alone_keeps_tcp_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        said = run_behind(
            landlock.deny_everything,
            trying(lambda: hostile_children.connect(socket.AF_INET, address)),
        )
    assert said == "EACCES"


@pytest.mark.skipif(UNSEALABLE is not None or landlock.abi() < 6, reason="Landlock knows no scope")
def test_landlock_alone_keeps_signals_and_abstract_sockets_away() -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0graddx-sandbox-test")
        server.listen()
        attempts: list[Callable[[], object]] = [
            lambda: os.kill(os.getppid(), 0),
            lambda: hostile_children.connect(socket.AF_UNIX, "\0graddx-sandbox-test"),
        ]
        for attempt in attempts:
            assert run_behind(landlock.deny_everything, trying(attempt)) == "EPERM"


# seccomp alone.

DANGEROUS = {
    "open": 2, "stat": 4, "pipe": 22, "shmget": 29, "socket": 41, "connect": 42, "sendto": 44,
    "sendmsg": 46, "recvmsg": 47, "bind": 49, "listen": 50, "socketpair": 53, "fork": 57,
    "vfork": 58, "execve": 59, "kill": 62, "truncate": 76, "chdir": 80, "rename": 82, "mkdir": 83,
    "unlink": 87, "chmod": 90, "ptrace": 101, "setuid": 105, "personality": 135, "chroot": 161,
    "setrlimit": 160, "mount": 165, "reboot": 169, "init_module": 175, "tkill": 200,
    "io_setup": 206, "timer_create": 222, "mq_open": 240, "kexec_load": 246, "add_key": 248,
    "keyctl": 250, "inotify_init": 253, "openat": 257, "newfstatat": 262, "unshare": 272,
    "eventfd2": 290, "perf_event_open": 298, "fanotify_init": 300, "name_to_handle_at": 303,
    "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311,
    "seccomp": 317, "memfd_create": 319, "bpf": 321, "execveat": 322, "userfaultfd": 323,
    "statx": 332, "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426,
    "open_tree": 428, "fsopen": 430, "pidfd_open": 434, "openat2": 437, "pidfd_getfd": 438,
    "process_madvise": 440, "landlock_create_ruleset": 444, "memfd_secret": 447,
}  # fmt: skip
"""Calls of x86_64 that must never be allowed, whatever becomes of the list."""

UNFILTERED = {335, 336}
"""uretprobe and uprobe: the kernel lets no filter see them, and ends whoever calls them from
anywhere but its own trampoline."""
FORBIDDEN = sorted(set(range(470)) - set(seccomp.X86_64.numbers.values()) - UNFILTERED)


def raw(number: int, *arguments: int) -> str:
    """The error's name of a system call made directly."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    return errno.errorcode[ctypes.get_errno()] if result < 0 else f"came through: {result}"


@x86_64_only
def test_no_dangerous_call_is_on_the_list() -> None:
    assert set(DANGEROUS.values()) <= set(FORBIDDEN)


@x86_64_only
def test_every_call_that_is_not_on_the_list_is_refused() -> None:
    said = run_behind(
        seccomp.allow_computing_only,
        lambda: json.dumps([number for number in FORBIDDEN if raw(number) != "EPERM"]),
    )
    assert json.loads(said) == []


CLONE_PROCESS = signal.SIGCHLD
CLONE_USER_NAMESPACE_THREAD = 0x10000000 | 0x00010000 | 0x00000900


@x86_64_only
@pytest.mark.parametrize(
    ("number", "arguments", "said"),
    [
        (56, (CLONE_PROCESS, 0), "EPERM"),
        (56, (CLONE_USER_NAMESPACE_THREAD, 0), "EPERM"),
        (435, (0, 0), "ENOSYS"),
        (72, (0, 8, os.getpid()), "EPERM"),  # F_SETOWN
        (157, (4, 1), "EPERM"),  # PR_SET_DUMPABLE
        (157, (1, 0), "EPERM"),  # PR_SET_PDEATHSIG: outlive the zygote
        (302, (0, 0, 1, 0), "EPERM"),  # new limits
        (302, (0, 0, 1 << 40, 0), "EPERM"),
        (302, (os.getppid(), 0, 0, 0), "EPERM"),
        (234, (os.getpid(), os.getpid(), 0), "EPERM"),  # tgkill of the parent
    ],
)
def test_calls_that_are_allowed_in_part(number: int, arguments: tuple[int, ...], said: str) -> None:
    assert run_behind(seccomp.allow_computing_only, lambda: raw(number, *arguments)) == said


@x86_64_only
def test_a_signal_to_itself_arrives() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # of this process, which others share
    try:
        said = run_behind(
            seccomp.allow_computing_only,
            lambda: raw(234, os.getpid(), threading.get_native_id(), signal.SIGTERM),
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert said == f"ended by {-signal.SIGTERM}"


@x86_64_only
def test_a_foreign_calling_convention_ends_the_process() -> None:
    said = run_behind(seccomp.allow_computing_only, lambda: raw(0x40000000 | 39))
    assert said == f"ended by {-signal.SIGSYS}"


def test_a_thread_from_before_the_seal_is_not_tolerated() -> None:
    def wall() -> None:
        threading.Thread(target=signal.pause, daemon=True).start()
        seal()

    assert "2 threads" in run_behind(wall, lambda: "sealed")


def test_specs_and_uploads_are_both_sealed() -> None:
    """The seal is not a matter of where the model comes from."""
    prober = ZygoteProber(
        Limits(wall_seconds=30, memory_mb=256),
        "tests.security.hostile_children:serve",
        "tests.security.hostile_children:warm_up",
        lambda _: Path("/nowhere"),
    )
    try:
        source = SpecSource(Architecture((Sample((1,)),), ()))
        with prober.open(source, ProbePlan()) as session:
            assert json.loads(session.facts.format)["read a file"] in ("EPERM", "EACCES")
    finally:
        prober.close()


# The tables, against the kernel's own headers where they are installed.

HEADERS = {
    "x86_64": (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), seccomp.X86_64),
    "aarch64": (Path("/usr/include/asm-generic/unistd.h"), seccomp.AARCH64),
}


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_the_kernels(machine: str) -> None:
    header, architecture = HEADERS[machine]
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    defined = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text())
    numbers = {name: int(number) for name, number in defined}
    assert {name: numbers[name] for name in architecture.numbers} == architecture.numbers


def test_a_gpu_child_reads_the_drivers_files_and_no_others(tmp_path: Path) -> None:
    """The wall as it would stand around a GPU, here without one: /dev/null for its device file."""
    library, secret = tmp_path / "lib", tmp_path / "secret"
    library.mkdir()
    (library / "driver.so").write_text("elf")
    secret.write_text("precious")

    def wall() -> None:
        landlock.deny_everything([str(library)], ["/dev/null"])
        seccomp.allow_computing_only(gpu=True)

    def attempts() -> str:
        tried: dict[str, Callable[[], object]] = {
            "library": (library / "driver.so").read_text,
            "device": lambda: Path("/dev/null").write_text("x"),
            "secret": secret.read_text,
            "passwd": lambda: Path("/etc/passwd").read_text(),
            "written": lambda: (library / "new").write_text("x"),
            "socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
            "process": os.fork,
        }
        return json.dumps({name: hostile_children.outcome(act) for name, act in tried.items()})

    said = json.loads(run_behind(wall, attempts))
    through = {name for name, outcome in said.items() if "through" in outcome}
    assert through == {"library", "device"}, said


def test_the_whole_gpu_seal_closes_what_it_does_not_need(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("precious")
    said = run_behind(lambda: seal(gpu=True), trying(secret.read_text))
    assert said == "EACCES"
