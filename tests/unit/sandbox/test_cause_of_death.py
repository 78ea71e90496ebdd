from __future__ import annotations

import signal

import pytest

from service.domain.errors import (
    InternalError,
    ProbeCrashed,
    ProbeFailure,
    ProbeOutOfMemory,
    ProbeTimeout,
)
from service.sandbox.cause_of_death import cause_of_death
from service.sandbox.control import Exited
from service.sandbox.limits import Limits
from service.sandbox.zygote import EXIT_OUT_OF_MEMORY, EXIT_RAISED, EXIT_UNCONFINED

LIMITS = Limits(cpu_seconds=10)


@pytest.mark.parametrize(
    ("status", "cpu_seconds", "failure", "word"),
    [
        (-signal.SIGXCPU, 10.0, ProbeTimeout, "10 seconds"),
        (-signal.SIGKILL, 11.0, ProbeTimeout, "10 seconds"),
        (-signal.SIGKILL, 1.0, ProbeOutOfMemory, "memory"),
        (EXIT_OUT_OF_MEMORY, 1.0, ProbeOutOfMemory, "4096 MiB"),
        (EXIT_RAISED, 1.0, ProbeCrashed, "status 70"),
        (0, 1.0, ProbeCrashed, "status 0"),
        (EXIT_UNCONFINED, 0.0, InternalError, "confined"),
        (-signal.SIGBUS, 1.0, ProbeCrashed, "SIGBUS"),
        (-40, 1.0, ProbeCrashed, "signal 40"),
    ],
)
def test_every_end_has_its_failure(
    status: int, cpu_seconds: float, failure: type[ProbeFailure], word: str
) -> None:
    told = cause_of_death(Exited(status, cpu_seconds), LIMITS)
    assert type(told) is failure
    assert word in told.detail
