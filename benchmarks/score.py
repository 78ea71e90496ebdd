"""How often is the verdict right?  The real pipeline on labelled cases.

    python -m benchmarks.score --cases tests/cases/dev_cases.jsonl [--trial-steps N] [--jobs N]

A case is one JSON line with `spec`, `data` and the `label` a real training gave it (healthy, mixed
or sick; see tests/cases/oracle.py). `unhealthy` is the positive: precision and recall are counted
against cases labelled sick and healthy; mixed ones should come out at_risk and are shown apart.
A prescription is applied and trained by the same oracle: `repaired` counts sick cases that SGD or
Adam then trains, `healthy_after` those that both train.

The models come from the case file, so they are probed in this very process, without the sandbox.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from service.domain.findings import Verdict
from service.domain.measurements import Measurements, ModelFacts, Trial
from service.domain.model_source import ModelSource, SpecSource, model_source
from service.domain.probe_plan import Look, ProbePlan
from service.domain.progress import Progress
from service.domain.report import Report
from service.domain.request import ALL_KINDS, AnalysisRequest, ModelRequest
from service.pipeline import analyse
from service.probing.pace import Pace
from service.probing.session import Session

CASES = Path("tests/cases/dev_cases.jsonl")
ORACLE = Path("tests/cases/oracle.py")
EXPECTED = {"healthy": "healthy", "mixed": "at_risk", "sick": "unhealthy"}
BUDGET_SECONDS = 600.0
"""Generous: a busy machine must not cut the probe and change the score."""
TRAINS = 0.9
"""Accuracy from which the oracle says that an optimizer trains a model."""


class InProcessSession:
    """A probing session without the process wall."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def facts(self) -> ModelFacts:
        """What loading told."""
        return self._session.facts()

    def measure(
        self,
        changes: tuple[Mapping[str, Any], ...] = (),
        *,
        after_steps: int = 0,
        look: Look | None = None,
        seconds: float | None = None,
    ) -> Measurements:
        """Probe the model as changed."""
        return self._session.measure(changes, after_steps=after_steps, look=look, seconds=seconds)

    def trial(
        self,
        changes: tuple[Mapping[str, Any], ...] = (),
        *,
        rates: Mapping[str, float] | None = None,
        seconds: float | None = None,
    ) -> Trial:
        """Train the model as changed."""
        return self._session.trial(changes, rates=rates, seconds=seconds)

    def export(self, changes: tuple[Mapping[str, Any], ...] = ()) -> bytes:
        """The weights as changed, a safetensors file."""
        file = io.BytesIO()
        self._session.export(file, changes)
        return file.getvalue()

    def peak_memory_mb(self) -> float | None:
        """Unknown: this process holds more than the model."""
        return None


class InProcessProber:
    """Opens sessions in this process; for trusted specs alone."""

    @contextmanager
    def open(
        self,
        source: ModelSource,
        plan: ProbePlan,
        tell: Callable[[float], None] = lambda _: None,
    ) -> Iterator[InProcessSession]:
        """Build and record the model."""
        assert isinstance(source, SpecSource)
        session = Session.open(plan, source.architecture, None, pace=Pace(tell))
        yield InProcessSession(session)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scored case."""

    id: str
    what: str
    label: str
    """healthy, mixed or sick."""
    verdict: str
    """A verdict, or "failed"."""
    why: str
    """Summary, confidence and what decided."""
    trial: bool
    """True when a short training was asked for."""
    seconds: float
    trains_after: bool = False
    """The prescription was offered and SGD or Adam trains it."""
    healthy_after: bool = False
    """The prescription was offered and both train it."""

    @property
    def right(self) -> bool:
        """True when the verdict is the one the label asks for."""
        return self.verdict == EXPECTED[self.label]


def report_on(
    case: Mapping[str, Any], plan: ProbePlan, allowed_changes: tuple[str, ...] = ALL_KINDS
) -> Report:
    """Run the pipeline on one case. Raises what it raises."""
    torch.set_num_threads(1)
    model = ModelRequest("spec", spec=case["spec"])
    request = AnalysisRequest(model, plan, allowed_changes=allowed_changes)
    return analyse(request, model_source(model, "spec"), InProcessProber(), unwatched)


def score(case: dict[str, Any], trial_steps: int) -> Outcome:
    """Run the pipeline on one case, and train what it prescribes."""
    began = time.perf_counter()
    try:
        report = report_on(case, ProbePlan(trial_steps=trial_steps, budget_seconds=BUDGET_SECONDS))
    except Exception as error:
        took = time.perf_counter() - began
        why = f"{type(error).__name__}: {error}"
        return Outcome(case["id"], case["what"], case["label"], "failed", why, False, took)
    took = time.perf_counter() - began
    found = report.diagnosis
    trains, healthy = _after(case, report)
    return Outcome(
        id=case["id"],
        what=case["what"],
        label=case["label"],
        verdict=found.verdict.value,
        why=f"{found.summary} ({found.decided_by}, {found.confidence:.2f})",
        trial=report.trial is not None,
        seconds=took,
        trains_after=trains,
        healthy_after=healthy,
    )


def _after(case: Mapping[str, Any], report: Report) -> tuple[bool, bool]:
    """(SGD or Adam trains the prescribed spec, both do), by the oracle."""
    prescription = report.prescription
    if case["label"] != "sick" or prescription is None or prescription.patched_spec is None:
        return False, False
    judged = oracle().judge(prescription.patched_spec, case["data"], seeds=(0, 1, 2))
    return max(*judged["sgd"], *judged["adam"]) >= TRAINS, judged["label"] == "healthy"


@cache
def oracle() -> Any:
    """The oracle is a script among the test data, not a module of the project."""
    found = importlib.util.spec_from_file_location("oracle", ORACLE)
    assert found is not None
    assert found.loader is not None
    module: Any = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    module.data = cache(module.data)  # it reads the digits anew for every training
    return module


def unwatched(_now: Progress) -> None:
    """Nobody watches the stages here."""


def table(outcomes: Iterable[Outcome]) -> str:
    """Label × verdict."""
    counts = Counter((outcome.label, outcome.verdict) for outcome in outcomes)
    verdicts = [*(verdict.value for verdict in Verdict), "failed"]
    rows = [f"{'':8}" + "".join(f"{verdict:>14}" for verdict in verdicts)]
    rows += [
        f"{label:8}" + "".join(f"{counts[label, verdict]:>14}" for verdict in verdicts)
        for label in EXPECTED
    ]
    return "\n".join(rows)


def last_line(outcomes: list[Outcome]) -> str:
    """The line that others read; a ratio of nothing to nothing is 0."""
    sick = [outcome for outcome in outcomes if outcome.label == "sick"]
    healthy = [outcome for outcome in outcomes if outcome.label == "healthy"]
    caught = sum(outcome.verdict == "unhealthy" for outcome in sick)
    false_alarms = sum(outcome.verdict == "unhealthy" for outcome in healthy)
    precision = caught / (caught + false_alarms) if caught + false_alarms else 0.0
    recall = caught / len(sick) if sick else 0.0
    repaired = sum(outcome.trains_after for outcome in sick)
    healthy_after = sum(outcome.healthy_after for outcome in sick)
    return (
        f"precision={precision:.3f} recall={recall:.3f} "
        f"false_alarms={false_alarms}/{len(healthy)} "
        f"repaired={repaired}/{len(sick)} healthy_after={healthy_after}/{len(sick)}"
    )


def main() -> None:
    """Score a file of cases and print what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.score", description=__doc__)
    parser.add_argument("--cases", type=Path, default=CASES)
    parser.add_argument("--trial-steps", type=int, default=ProbePlan().trial_steps)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    with arguments.cases.open(encoding="utf-8") as lines:
        cases = [case for line in lines if (case := json.loads(line))["label"] in EXPECTED]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        outcomes = list(pool.map(partial(score, trial_steps=arguments.trial_steps), cases))
    for outcome in outcomes:
        if not outcome.right:
            print(f"{outcome.id} {outcome.label} → {outcome.verdict}: {outcome.what}")
            print(f"    {outcome.why}")
    seconds = sum(outcome.seconds for outcome in outcomes) / max(len(outcomes), 1)
    print(table(outcomes))
    print(f"{len(outcomes)} cases, {seconds:.2f} s each, ", end="")
    print(f"{sum(outcome.trial for outcome in outcomes)} short trainings")
    print(last_line(outcomes))


if __name__ == "__main__":
    main()
