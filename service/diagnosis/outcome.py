"""What the short trainings say, and how much that weighs."""

from __future__ import annotations

from enum import StrEnum

from service.domain.measurements import Trial, TrialRun

OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
"""How the field writes them."""


class Outcome(StrEnum):
    """Of the short training with the one optimizer that was named."""

    ALL = "all"
    """It learned."""
    HALF = "half"
    """At chance when the steps were over: a rate far too low is no proof."""
    NONE = "none"
    """It blew up."""


LIKELIHOOD: dict[Outcome, tuple[float, float, float]] = {
    Outcome.ALL: (0.015, 0.163, 0.955),
    Outcome.HALF: (0.015, 0.224, 0.006),
    Outcome.NONE: (0.955, 0.286, 0.007),
}
"""P(outcome | the model is sick, mixed, healthy): counted on 64, 45 and 152 labelled networks, one
added to each count (Laplace), of short trainings at usual rates where all, hardly any or no
optimizer learned; the rest of each column are those where one of two did."""


def learned_by(trial: Trial | None) -> dict[str, bool]:
    """Per optimizer, whether any rate learned; empty without a trial."""
    learned: dict[str, bool] = {}
    for run in trial.runs if trial else ():
        learned[run.optimizer] = learned.get(run.optimizer, False) or run.learned
    return learned


SLOWLY = 0.05
"""Share of the loss at the start by which it has fallen when a run learns, only slowly."""
BLOWN_UP = 2.0
"""Times the loss at the start at which a run has blown up."""
_ENDS = 8
"""Steps at either end of a run over which its loss is averaged."""


def still_learning(run: TrialRun) -> bool:
    """Whether a run that has not learned was on its way: a rate that the caller chose may be a slow
    one, and steps are few."""
    losses = [loss for loss in run.loss if loss is not None]
    if len(losses) < max(len(run.loss), 2 * _ENDS):
        return False
    first, last = sum(losses[:_ENDS]), sum(losses[-_ENDS:])
    return last < (1.0 - SLOWLY) * first


def outcome_of_named(trial: Trial | None) -> Outcome | None:
    """What the one optimizer that the caller named did; None without a trial, and when it learns
    too slowly to tell.

    Learned: all. Blown up: none. At chance when the steps were over: half, since a rate far too
    low is no proof that the model cannot learn."""
    if trial is None or not trial.runs:
        return None
    run = trial.runs[0]
    if run.learned:
        return Outcome.ALL
    start = run.loss[0] if run.loss else None
    if start is None or any(loss is None or loss > BLOWN_UP * start for loss in run.loss):
        return Outcome.NONE
    return None if still_learning(run) else Outcome.HALF
