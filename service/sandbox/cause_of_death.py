"""Why a child is dead, as far as can be known, in the contract's words."""

from __future__ import annotations

import signal

from service.domain.errors import (
    InternalError,
    ProbeCrashed,
    ProbeFailure,
    ProbeOutOfMemory,
    ProbeTimeout,
)
from service.sandbox.control import Exited
from service.sandbox.limits import Limits
from service.sandbox.zygote import EXIT_OUT_OF_MEMORY, EXIT_UNCONFINED


def out_of_wall_time(limits: Limits) -> ProbeTimeout:
    """The wall clock ran out."""
    return ProbeTimeout(f"the probe took longer than {limits.wall_seconds:g} seconds")


def cause_of_death(exited: Exited, limits: Limits) -> ProbeFailure:
    """The failure to report for a child that ended although nobody ended it."""
    if exited.status == EXIT_UNCONFINED:
        return InternalError("the probe's process could not be confined")
    if exited.status == EXIT_OUT_OF_MEMORY:
        return ProbeOutOfMemory(f"the probe needed more than {limits.memory_mb} MiB of memory")
    if exited.status >= 0:
        return ProbeCrashed(f"the probe's process ended with status {exited.status}")
    return _killed_by(-exited.status, exited.cpu_seconds, limits)


def _killed_by(number: int, cpu_seconds: float, limits: Limits) -> ProbeFailure:
    if number == signal.SIGXCPU or (number == signal.SIGKILL and cpu_seconds >= limits.cpu_seconds):
        return ProbeTimeout(f"the probe used more than {limits.cpu_seconds} seconds of CPU time")
    if number == signal.SIGKILL:
        # No one else kills children: the worker remembers when it did.
        return ProbeOutOfMemory(
            "the kernel killed the probe's process: the host has no memory left"
        )
    return ProbeCrashed(f"the probe's process was ended by {_name(number)}")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
