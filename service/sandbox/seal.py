"""The last gate before a model is loaded: nothing can be opened, started or signalled after it."""

from __future__ import annotations

import os

from service.sandbox import landlock, linux, seccomp
from service.sandbox.gpu import device_files, readable


class SealUnavailable(Exception):
    """This host cannot seal a process; the message says why."""


def seal(*, gpu: bool = False) -> None:
    """Seal this process for good; `gpu`: but for what a GPU's driver needs (see `gpu`). Needs
    PR_SET_NO_NEW_PRIVS. Raises SealUnavailable.

    Two walls, each enough for most: Landlock knows files and ports, seccomp knows calls. Threads
    that exist before the seal would escape Landlock, so a process with more than one is refused.
    """
    threads = linux.thread_count()
    if threads != 1:
        raise SealUnavailable(f"{threads} threads exist before the seal")
    try:
        if gpu:
            landlock.deny_everything(readable(), device_files())
        else:
            landlock.deny_everything()
    except OSError as error:
        raise SealUnavailable(f"Landlock: {error}") from error
    try:
        seccomp.allow_computing_only(gpu=gpu)
    except OSError as error:
        raise SealUnavailable(f"seccomp: {error}") from error


def why_unsealable() -> str | None:
    """Try it in a process of its own. None: it works."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _try_seal(writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        reason = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    if status != 0 and not reason:
        reason = f"sealing ended the process ({os.waitstatus_to_exitcode(status)})"
    return reason or None


def _try_seal(writer: int) -> None:
    """Never returns."""
    reason = ""
    try:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
        seal()
    except (SealUnavailable, OSError) as error:
        reason = str(error)
    os.write(writer, reason.encode())
    os._exit(1 if reason else 0)
