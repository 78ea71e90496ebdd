"""A model whose state is the kinds of change that were made to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from service.domain.findings import Diagnosis, Finding, Severity, Verdict
from service.domain.measurements import (
    Measurements,
    ModelFacts,
    ModelMeasurements,
    Quantiles,
    Trial,
    TrialRun,
)
from service.domain.probe_plan import Look
from service.domain.recommendations import Recommendation

Kinds = frozenset[str]
MODEL = ModelMeasurements(
    "cross_entropy", True, 2.3, math.log(10), Quantiles(1.0, 1.0, 1.0, 9), 1.0, None, (64, 10), None
)


class Session:
    """Measures and trains it."""

    def __init__(
        self, cures: Sequence[Kinds], late: Kinds = frozenset(), *, seeds: int = 1, batches: int = 1
    ) -> None:
        self.facts = ModelFacts("spec", 1, 1, True, "2", "cpu", seeds=seeds, batches=batches)
        self.cures = cures
        self.late = late
        """Kinds with which it learns at the second rate only."""
        self.measured: list[Kinds] = []
        self.looks: list[Look | None] = []
        """Of what was measured, in the same order."""
        self.trained: list[Kinds] = []
        self.rates: list[dict[str, float]] = []
        """Asked for each, in the same order; {}: the usual ones."""

    def measure(
        self,
        changes: tuple[Mapping[str, Any], ...] = (),
        *,
        after_steps: int = 0,
        look: Look | None = None,
        seconds: float | None = None,
    ) -> Measurements:
        kinds = frozenset(str(change["kind"]) for change in changes)
        self.measured.append(kinds)
        self.looks.append(look)
        seen = ("at a glance",) if look else ()
        return Measurements(MODEL, (), (), (*kinds, *seen), after_steps)

    def trial(
        self,
        changes: tuple[Mapping[str, Any], ...] = (),
        *,
        rates: Mapping[str, float] | None = None,
        seconds: float | None = None,
    ) -> Trial:
        kinds = frozenset(str(change["kind"]) for change in changes)
        self.trained.append(kinds)
        self.rates.append(dict(rates or {}))
        learned = any(cure <= kinds for cure in self.cures)
        run = TrialRun("sgd", 0.1, (2.3, 0.1), (1.0,), None, learned, float(learned))
        failed = TrialRun("sgd", 0.3, (2.3, 2.3), (1.0,), None, learned=False, progress=0.0)
        return Trial("gaussian_classes", 100, (failed, run) if kinds & self.late else (run,))

    def export(self, changes: tuple[Mapping[str, Any], ...] = ()) -> bytes:
        raise NotImplementedError

    def peak_memory_mb(self) -> float | None:
        return None


def told(verdict: Verdict, *codes: str, **evidence: Any) -> Diagnosis:
    findings = tuple(
        Finding(code, Severity.ERROR, 0.9, ("fc",), code, code, evidence) for code in codes
    )
    return Diagnosis(verdict, 0.9, "static", "", findings)


def advice(*kinds: str) -> list[Recommendation]:
    change = {"branch_scale": 1.0, "parameters": []}
    return [
        Recommendation("", kind, ("fc",), f"the {kind}", "because.", (), change) for kind in kinds
    ]
