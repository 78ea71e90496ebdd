"""What a change did, by two looks at the same initializations and batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.domain.findings import Diagnosis, Severity, Verdict
from service.domain.measurements import Measurements
from service.domain.probe_plan import Look
from service.domain.recommendations import Effect

RANKS = {Verdict.HEALTHY: 0, Verdict.AT_RISK: 1}
"""Of verdicts, from the best; any other is 2."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A model, looked at and judged."""

    measurements: Measurements
    settled: Measurements | None
    """After a few optimizer steps, where zeros may only be a beginning."""
    diagnosis: Diagnosis
    """Of a changed model by the statistics alone; of the one that came with its short training,
    where there was one."""
    look: Look
    """What was measured."""


def effect(before: Judged, after: Judged, static_rank: int) -> Effect:
    """`static_rank`: of the model as it came, by its statistics alone."""
    earlier, later = threats(before.diagnosis), threats(after.diagnosis)
    resolved = tuple(code for code in earlier if code not in later)
    introduced = tuple(code for code in later if code not in earlier)
    now = rank(after.diagnosis)
    better = bool(resolved) or _eased(earlier, later) or now < static_rank
    worse = any(later[code] is Severity.ERROR for code in introduced)
    # Where the training alone found the model sick, the training alone can show a cure.
    unseen = not (better or worse or static_rank or now)
    return Effect(
        verified=None if unseen else better and not worse,
        before=_figures(before),
        after=_figures(after),
        resolved=resolved,
        introduced=introduced,
    )


def threats(diagnosis: Diagnosis) -> dict[str, Severity]:
    """What the statistics hold against training, by code."""
    return {
        found.code: found.severity
        for found in diagnosis.findings
        if found.severity.rank >= Severity.WARNING.rank and found.code != "untrainable"
    }


def rank(diagnosis: Diagnosis) -> int:
    """0 is best."""
    return RANKS.get(diagnosis.verdict, 2)


def _eased(earlier: Mapping[str, Severity], later: Mapping[str, Severity]) -> bool:
    return any(code in later and later[code].rank < earlier[code].rank for code in earlier)


def _figures(judged: Judged) -> dict[str, Any]:
    model, layers = judged.measurements.model, judged.measurements.layers
    gains = sorted(layer.gradient.gain for layer in layers if layer.gradient.gain is not None)
    return {
        "verdict": judged.diagnosis.verdict.value,
        "total_gain": model.total_gain,
        "median_gain": gains[len(gains) // 2] if gains else None,
        "loss_at_start": model.loss_at_start,
        "seeds": judged.look.seeds,
        "batches": judged.look.batches,
    }
