"""What the short trainings say, and how much that weighs."""

from __future__ import annotations

from enum import StrEnum

from service.domain.measurements import Trial

OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
"""How the field writes them."""


class Outcome(StrEnum):
    """Of all short trainings of one model."""

    ALL = "all"
    """Every optimizer that was asked learned at some rate."""
    SOME = "some"
    """One did, another did not."""
    NONE = "none"
    """None learned."""


LIKELIHOOD: dict[Outcome, tuple[float, float, float]] = {
    Outcome.ALL: (0.02, 0.12, 0.95),
    Outcome.SOME: (0.12, 0.43, 0.04),
    Outcome.NONE: (0.86, 0.45, 0.01),
}
"""P(outcome of the trial | the model is sick, mixed, healthy): counted on the labelled networks
(see `thresholds`) that were asked for a trial, rounded, and never 0. A mixed model, which needs 400
steps to get half-way, often learns nothing in a short trial; now and then Adam learns the trial's
easier task with a sick one."""


def learned_by(trial: Trial | None) -> dict[str, bool]:
    """Per optimizer, whether any rate learned; empty without a trial."""
    learned: dict[str, bool] = {}
    for run in trial.runs if trial else ():
        learned[run.optimizer] = learned.get(run.optimizer, False) or run.learned
    return learned


def outcome(trial: Trial | None) -> Outcome | None:
    """None without a trial or when it has no runs."""
    learned = learned_by(trial)
    if not learned:
        return None
    if all(learned.values()):
        return Outcome.ALL
    return Outcome.SOME if any(learned.values()) else Outcome.NONE
