"""What the short trainings show, as numbers that speak for or against training."""

from __future__ import annotations

import math

from service.domain.measurements import Trial

LEAST = 0.01
"""Progress that counts as none."""
SIGNS = ("learned", "progress", "slow")
"""Per optimizer; see `signs`."""
LONGEST = {"sgd": 1.0, "adam": 2.5}
"""By optimizer whose trials are weighed when the request names none: how long its longest run is,
as a share of the steps asked for."""


def signs(trial: Trial) -> dict[str, float]:
    """`sgd_learned` … `adam_slow`. Learned: 1 when one of the rates did; progress: log₁₀ of the
    best, 0.01 at least; slow: steps that the run that learned took, as a share of those asked for,
    the most there can be when none did."""
    found = {}
    for name, longest in LONGEST.items():
        runs = [run for run in trial.runs if run.optimizer == name]
        learned = [run for run in runs if run.learned]
        progress = max((run.progress for run in runs), default=0.0)
        found[f"{name}_learned"] = float(bool(learned))
        found[f"{name}_progress"] = math.log10(max(progress, LEAST))
        took = len(learned[0].loss) / trial.steps if learned else longest
        found[f"{name}_slow"] = min(took, longest)
    return found
