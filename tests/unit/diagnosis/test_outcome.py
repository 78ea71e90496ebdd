"""What the short training with the one optimizer that was named says."""

from __future__ import annotations

import pytest

from service.diagnosis.outcome import Outcome, outcome_of_named
from service.domain.measurements import Trial, TrialRun

FLAT = (2.3,) * 40
FALLING = tuple(2.3 - 0.01 * step for step in range(40))
BLOWING = (2.3, 2.4, 900.0)


def trial(*runs: tuple[str, tuple[float | None, ...], bool, float]) -> Trial:
    return Trial(
        "gaussian_classes",
        100,
        tuple(
            TrialRun(name, 0.1, losses, (1.0,) * len(losses), 0.1, learned, progress)
            for name, losses, learned, progress in runs
        ),
    )


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (trial(), None),
        (trial(("sgd", FALLING, True, 0.5)), Outcome.ALL),
        (trial(("sgd", BLOWING, False, 0.0)), Outcome.NONE),
        (trial(("sgd", (2.3, None), False, 0.0)), Outcome.NONE),
        (trial(("sgd", (None,), False, 0.0)), Outcome.NONE),
        (trial(("adam", FLAT, False, 0.0)), Outcome.HALF),
        (trial(("adam", FALLING, False, 0.1)), None),
    ],
)
def test_of_the_named_optimizer(told: Trial, expected: Outcome | None) -> None:
    assert outcome_of_named(told) is expected
