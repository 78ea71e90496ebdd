"""Is there a shorter cure than the one prescribed?  Every smaller set is trained by the oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

from service.domain.architecture import Architecture
from service.domain.measurements import Measurements
from service.domain.recommendations import Recommendation
from service.domain.report import Report
from service.domain.request import ALL_KINDS
from service.recommendation.combination import changes_model, combined
from service.recommendation.recommend import recommend
from service.recommendation.repaired import repaired

LARGEST = 2
"""Changes in a set that is tried, at most."""
MOST_SETS = 24
"""Sets that are tried, at most: each costs as much as a label."""


def shorter_cure(
    architecture: Architecture, report: Report, label: Callable[[dict[str, Any]], str]
) -> dict[str, Any]:
    """`found`: the kinds of the first smaller set that the oracle finds healthy, None when there is
    none; `tried`: how many sets that took; `all`: False where the bounds left some out."""
    given = report.prescription
    size = LARGEST + 1 if given is None else len(given.recommendations)
    tried = 0
    for chosen in _smaller_sets(architecture, report, size):
        if tried == MOST_SETS:
            return {"found": None, "tried": tried, "all": False}
        done = repaired(architecture, combined(chosen))
        if done is None:
            continue
        tried += 1
        if label(done.spec) == "healthy":
            return {"found": [one.kind for one in chosen], "tried": tried, "all": True}
    return {"found": None, "tried": tried, "all": size - 1 <= LARGEST}


def _smaller_sets(
    architecture: Architecture, report: Report, size: int
) -> Iterator[tuple[Recommendation, ...]]:
    """Of what was advised, whatever came of it, in order of size."""
    advised = recommend(
        report.diagnosis,
        Measurements(report.model, report.layers, ()),
        architecture=architecture,
        batch_size=report.facts.batch_size,
        trial=report.trial,
        allowed_changes=tuple(kind for kind in ALL_KINDS if kind != "pretraining"),
    )
    edits = [one for one in advised if changes_model(one)]
    for count in range(1, min(size - 1, LARGEST) + 1):
        for chosen in combinations(edits, count):
            if len({one.kind for one in chosen}) == count:
                yield chosen
