"""How far an analysis is: its stage, and a percentage that grows within it."""

from __future__ import annotations

from dataclasses import dataclass

from service.domain.analysis import Stage

STARTS = {
    Stage.LOAD: 5,
    Stage.PROBE: 15,
    Stage.DIAGNOSE: 40,
    Stage.TRIAL: 45,
    Stage.RECOMMEND: 60,
    Stage.VERIFY: 65,
}
"""Percentage at which a stage begins, in the order in which they come."""
END = 100
"""Of a final analysis, and of no other."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a running attempt is."""

    stage: Stage
    """What it does."""
    percent: int
    """0 … 99. Asks of the child that were answered, and the share of the one under way, not time:
    how long one takes depends on the model."""


def progress(stage: Stage, answered: float = 0, expected: int | None = None) -> Progress:
    """`answered`: asks of this stage that the child has answered, and the share of the one under
    way, ≥ 0. `expected`: how many the stage is known to have when it begins; when so many are
    answered it is half way, because what comes of them may ask for more. None: it has one, and no
    more. It never comes to the next stage by itself."""
    after = [start for start in STARTS.values() if start > STARTS[stage]]
    room = min(after, default=END) - STARTS[stage]
    share = answered if expected is None else answered / (answered + max(expected, 1))
    return Progress(stage, STARTS[stage] + min(int(room * share), room - 1))
