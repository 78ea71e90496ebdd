"""Findings and measurements in, recommendations out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from service.domain.architecture import Architecture
from service.domain.findings import Diagnosis
from service.domain.measurements import Measurements, Trial
from service.domain.probe_plan import OptimizerPlan
from service.domain.recommendations import Recommendation
from service.recommendation.case import Case
from service.recommendation.remedies import ALL_REMEDIES


def recommend(
    diagnosis: Diagnosis,
    measurements: Measurements,
    *,
    architecture: Architecture | None,
    batch_size: int,
    trial: Trial | None = None,
    allowed_changes: tuple[str, ...],
    optimizer: OptimizerPlan | None = None,
    in_time: Callable[[str], bool] = lambda _: True,
) -> tuple[Recommendation, ...]:
    """Changes of the allowed kinds, least invasive first, with ids r1, r2 …

    `batch_size` is the number of samples per training batch, ≥ 1; `optimizer` the one that the
    request names. Nothing is applied here: `effect`
    is None. A healthy model gets at most the clipping recommendation, one without layers none.
    `in_time`: asked before each kind whether there is time for it.
    """
    if not measurements.layers:
        return ()
    case = Case(
        diagnosis, measurements, architecture, batch_size, trial, allowed_changes, optimizer
    )
    proposed = (
        recommendation
        for remedy in ALL_REMEDIES
        if remedy.kind in allowed_changes and in_time(remedy.kind)
        for recommendation in remedy.propose(case)
    )
    return tuple(replace(r, id=f"r{number}") for number, r in enumerate(proposed, start=1))
