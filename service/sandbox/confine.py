"""What a child does between the fork and its first message: everything that can be given up is."""

from __future__ import annotations

import fcntl
import io
import os
import resource
import signal
import sys
from dataclasses import dataclass

from service.sandbox import linux
from service.sandbox.gpu import OPEN_FILES
from service.sandbox.limits import MIB, Limits

MODEL_FD = 3
CHANNEL_FD = 4
OUTPUT_FD = 5
_FIRST_FORBIDDEN_FD = 6
NAME = "graddx-probe"
"""What `ps` shows of a child at work."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What a child keeps, as numbered in the process that forks it."""

    channel: int
    """Connected to the worker."""
    output: int
    """The output file."""
    model: int | None
    """The model file, open for reading; None: the model is a spec."""


class _Nowhere(io.TextIOBase):
    """Where a model's prints go: a print is no fault of a model."""

    def write(self, text: str, /) -> int:
        return len(text)


def confine(parent: int, descriptors: Descriptors, limits: Limits, *, gpu: bool = False) -> None:
    """Cut this freshly forked process off from everything but its descriptors. Raises OSError."""
    os.setsid()
    linux.name_process(NAME)
    die_with(parent)
    _keep_only(descriptors)
    _limit(limits, gpu)
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)


def die_with(parent: int) -> None:
    """This process ends when that one does. Raises OSError when it has."""
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise OSError("the zygote is gone")


def _keep_only(descriptors: Descriptors) -> None:
    """Move the kept descriptors to their fixed numbers and close all others, 0, 1, 2 included."""
    targets = {CHANNEL_FD: descriptors.channel, OUTPUT_FD: descriptors.output}
    if descriptors.model is not None:
        targets[MODEL_FD] = descriptors.model
    # First out of the way of the fixed numbers, then onto them.
    parked = {
        target: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _FIRST_FORBIDDEN_FD)
        for target, source in targets.items()
    }
    os.closerange(0, _FIRST_FORBIDDEN_FD)
    for target, source in parked.items():
        os.dup2(source, target, inheritable=False)
    os.closerange(_FIRST_FORBIDDEN_FD, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    sys.stdin = None
    sys.stdout = sys.stderr = _Nowhere()


def _limit(limits: Limits, gpu: bool) -> None:
    if not gpu:  # CUDA reserves far more addresses than it uses; the zygote watches instead
        space = linux.address_space_bytes() + limits.memory_mb * MIB
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
    # Past the soft limit SIGXCPU tells what happened; past the hard one SIGKILL ends it anyway.
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.output_bytes, limits.output_bytes))
    files = OPEN_FILES if gpu else limits.open_files
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    tasks = min([limits.tasks, *filter(_is_bound, resource.getrlimit(resource.RLIMIT_NPROC))])
    resource.setrlimit(resource.RLIMIT_NPROC, (tasks, tasks))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _is_bound(limit: int) -> bool:
    return limit != resource.RLIM_INFINITY
