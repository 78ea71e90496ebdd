"""A child lost after the diagnosis costs what was not verified yet, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.score import InProcessProber
from service.domain.analysis import Stage
from service.domain.architecture import resolve
from service.domain.errors import (
    ModelRaised,
    ProbeCrashed,
    ProbeFailure,
    ProbeOutOfMemory,
    ProbeTimeout,
    ReplyTooLarge,
)
from service.domain.measurements import Measurements, ModelFacts, Trial
from service.domain.model_source import ModelSource, SpecSource
from service.domain.probe_plan import Look, OptimizerPlan, ProbePlan
from service.domain.progress import Progress
from service.domain.report import Report
from service.domain.request import AnalysisRequest, ModelRequest
from service.pipeline import analyse
from service.ports import Prober, ProbeSession
from service.sandbox.limits import Limits
from service.sandbox.prober import ZygoteProber
from service.verification.notes import NOT_COMPARED

LOSSES = (ProbeTimeout, ProbeOutOfMemory, ProbeCrashed, ReplyTooLarge)


def tanh(depth: int, std: float) -> dict[str, Any]:
    init = {"weight": {"name": "normal_", "args": {"std": std}}, "bias": {"name": "zeros_"}}
    linear = {"type": "Linear", "init": init}
    layers: list[dict[str, Any]] = []
    for index in range(depth):
        layers += [{**linear, "name": f"fc{index}", "args": {"out_features": 32}}, {"type": "Tanh"}]
    layers.append({**linear, "name": "head", "args": {"out_features": 4}})
    return {"input": {"shape": [32]}, "layers": layers}


SICK, WELL = tanh(16, 0.01), tanh(2, 0.18)
PLAN = ProbePlan(batch_size=16, batches=2, seeds=2, trial_steps=60, budget_seconds=600)
"""Generous: a busy machine must not cut it."""


class Failing:
    """A true session that fails at one call, and ever after."""

    def __init__(self, session: ProbeSession, kind: str, at: int, failure: ProbeFailure) -> None:
        self.session = session
        self.left = {"measure": -1, "trial": -1, kind: at}
        self.failure = failure
        self.lost = False

    @property
    def facts(self) -> ModelFacts:
        return self.session.facts

    def measure(
        self,
        changes: tuple[Mapping[str, Any], ...] = (),
        *,
        after_steps: int = 0,
        look: Look | None = None,
        seconds: float | None = None,
    ) -> Measurements:
        self._count("measure")
        return self.session.measure(changes, after_steps=after_steps, look=look, seconds=seconds)

    def trial(
        self,
        changes: tuple[Mapping[str, Any], ...] = (),
        *,
        rates: Mapping[str, float] | None = None,
        seconds: float | None = None,
    ) -> Trial:
        self._count("trial")
        return self.session.trial(changes, rates=rates, seconds=seconds)

    def export(self, changes: tuple[Mapping[str, Any], ...] = ()) -> bytes:
        raise AssertionError

    def peak_memory_mb(self) -> float | None:
        return 17.0

    def _count(self, kind: str) -> None:
        self.left[kind] -= 1
        self.lost = self.lost or self.left[kind] == 0
        if self.lost:
            raise self.failure


class FailingProber:
    """Opens sessions that fail at the `at`th call of a kind."""

    def __init__(self, kind: str, at: int, failure: ProbeFailure) -> None:
        self.how = (kind, at, failure)

    @contextmanager
    def open(
        self, source: ModelSource, plan: ProbePlan, tell: Callable[[float], None]
    ) -> Iterator[Failing]:
        with InProcessProber().open(source, plan, tell) as session:
            yield Failing(session, *self.how)


def report_on(
    prober: Prober, spec: dict[str, Any], plan: ProbePlan = PLAN, stages: list[Stage] | None = None
) -> Report:
    request = AnalysisRequest(ModelRequest("spec", spec), plan)
    told = [] if stages is None else stages
    return analyse(request, SpecSource(resolve(spec)), prober, lambda now: told.append(now.stage))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads that wait for each other on shared cores take many times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(one_thread: None) -> Report:
    """What comes out when nothing fails."""
    return report_on(InProcessProber(), SICK)


@pytest.mark.parametrize(
    ("failure", "at"), [*((failure, 2) for failure in LOSSES), (ProbeTimeout, 3)]
)
def test_lost_at_a_glance_or_at_the_first_change_nothing_is_verified(
    whole: Report, failure: type[ProbeFailure], at: int
) -> None:
    stages: list[Stage] = []
    report = report_on(FailingProber("measure", at, failure("why")), SICK, stages=stages)
    assert report.diagnosis == whole.diagnosis
    assert report.layers == whole.layers
    assert {one.kind for one in report.recommendations} > {"clipping"}
    assert all(one.effect is None for one in report.recommendations)
    assert report.prescription is None
    assert report.trial is None
    assert report.notes == (
        f"{failure.code}: why; the diagnosis was ready by then, and "
        "recommendations without effect are not verified",
    )
    assert list(report.cost.stages) == ["probe", "diagnose", "recommend", "verify", "load"]
    assert report.cost.peak_memory_mb == 17.0
    assert sum(report.cost.stages.values()) <= report.cost.wall_seconds + 1e-3
    # Told again when the child was gone, for whoever made an end of it.
    assert stages[-2:] == [Stage.VERIFY, Stage.VERIFY]


def test_what_was_verified_before_keeps_its_effect(whole: Report) -> None:
    report = report_on(FailingProber("measure", 4, ProbeTimeout("why")), SICK)
    effects = [one.effect for one in report.recommendations]
    in_full = whole.recommendations[0].effect
    assert effects[0] is not None
    assert in_full is not None
    assert effects[0].verified
    assert effects[0].resolved == in_full.resolved
    assert [seen["seeds"] for seen in (effects[0].after, in_full.after)] == [1, 2]
    assert len(effects) > 2
    assert effects[1:] == [None] * (len(effects) - 1)
    assert report.prescription is None


def test_lost_over_the_training_that_confirms_there_is_no_prescription(whole: Report) -> None:
    report = report_on(FailingProber("trial", 1, ProbeOutOfMemory("why")), SICK)
    assert whole.prescription is not None
    assert report.prescription is None
    assert report.recommendations == whole.recommendations
    assert report.diagnosis == whole.diagnosis
    told = {note.split(":")[0] for note in report.notes} - {"tried and dropped"}
    assert told == {"probe_out_of_memory"}


def test_lost_over_the_training_to_compare_with_the_prescription_stands(whole: Report) -> None:
    report = report_on(FailingProber("trial", 2, ProbeOutOfMemory("why")), SICK)
    assert whole.prescription is not None
    assert whole.prescription.trial is not None
    assert report.prescription == replace(whole.prescription, trial=None)
    told = {note.split(":")[0] for note in report.notes} - {"tried and dropped"}
    assert told == {"probe_out_of_memory", NOT_COMPARED}


def test_lost_over_the_trial_the_statistics_decide() -> None:
    plan = replace(PLAN, optimizer=OptimizerPlan("sgd", 0.1))
    decided = report_on(InProcessProber(), WELL, plan)
    assert decided.diagnosis.decided_by == "trial"
    stages: list[Stage] = []
    report = report_on(FailingProber("trial", 1, ProbeTimeout("why")), WELL, plan, stages)
    assert report.diagnosis.decided_by == "static"
    assert report.diagnosis.verdict == "healthy"
    assert report.trial is None
    assert report.prescription is None
    assert "trial" in report.cost.stages
    assert report.notes[-1].startswith("probe_timeout: why; the diagnosis was ready")
    assert stages.count(Stage.TRIAL) == 2
    assert stages[-1] is Stage.VERIFY


@pytest.mark.parametrize(
    ("at", "failure"),
    [(1, ProbeTimeout("why")), (1, ProbeCrashed("why")), (2, ModelRaised("why"))],
)
def test_before_the_diagnosis_and_for_the_models_own_errors_the_analysis_fails(
    at: int, failure: ProbeFailure
) -> None:
    with pytest.raises(type(failure), match="why"):
        report_on(FailingProber("measure", at, failure), SICK)


def test_a_child_that_was_ended_on_purpose_ends_the_analysis() -> None:
    class Unwanted(Exception):
        """What a watcher says of a cancelled analysis."""

    told: list[Progress] = []

    def watch(now: Progress) -> None:
        if now in told:
            raise Unwanted
        told.append(now)

    request = AnalysisRequest(ModelRequest("spec", SICK), PLAN)
    prober = FailingProber("measure", 2, ProbeCrashed("the probe was aborted"))
    with pytest.raises(Unwanted):
        analyse(request, SpecSource(resolve(SICK)), prober, watch)


def test_a_sealed_child_that_trains_for_ever_leaves_the_diagnosis() -> None:
    prober = ZygoteProber(
        Limits(wall_seconds=6),
        "tests.integration.probing_children:serve_but_train_for_ever",
        "service.probing.child:warm_up",
        Path,
    )
    try:
        prober.start()
        report = report_on(prober, SICK)
    finally:
        prober.close()
    assert report.diagnosis.verdict == "unhealthy"
    assert report.recommendations[0].effect is not None
    assert report.prescription is None
    assert report.notes[-1].startswith("probe_timeout: the probe took longer than 6 seconds;")


def test_progress_grows_with_every_change_that_is_verified() -> None:
    told: list[Progress] = []
    request = AnalysisRequest(ModelRequest("spec", SICK), PLAN)
    analyse(request, SpecSource(resolve(SICK)), InProcessProber(), told.append)
    percents = [now.percent for now in told]
    assert percents == sorted(percents)
    assert list(dict.fromkeys(now.stage for now in told))[:3] == list(Stage)[:3]
    assert len({now.percent for now in told if now.stage is Stage.VERIFY}) >= 4
    assert percents[-1] < 100


def test_progress_grows_within_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.probing.pace.TELL_SECONDS", 0.0)
    told: list[Progress] = []
    plan = replace(PLAN, batches=4, seeds=3, trial_steps=0)
    request = AnalysisRequest(ModelRequest("spec", SICK), plan)
    analyse(request, SpecSource(resolve(SICK)), InProcessProber(), told.append)
    percents = [now.percent for now in told]
    assert percents == sorted(percents)
    assert len({now.percent for now in told if now.stage is Stage.PROBE}) >= 12
