"""An analysis ends with its budget, by the clock, however slow the machine became on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.score import InProcessProber
from service.domain.architecture import resolve
from service.domain.errors import ChangeRefused
from service.domain.model_source import SpecSource
from service.domain.probe_plan import ProbePlan
from service.domain.report import Report
from service.domain.request import AnalysisRequest, ModelRequest
from service.pipeline import analyse
from service.probing import edits
from service.probing.pace import Pace
from service.probing.session import Session
from service.recommendation.remedies import activation

PLAN = ProbePlan(batch_size=8, batches=2, seeds=1, trial_steps=100, budget_seconds=2.0)
SLACK = 2.5
"""Seconds: what was begun in time is ended."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tanh(depth: int, std: float) -> dict[str, Any]:
    init = {"weight": {"name": "normal_", "args": {"std": std}}}
    linear = {"type": "Linear", "args": {"out_features": 32}, "init": init}
    layers = [layer for _ in range(depth) for layer in (linear, {"type": "Tanh"})]
    return {"input": {"shape": [32]}, "layers": [*layers, {**linear, "args": {"out_features": 8}}]}


def report_on(spec: dict[str, Any], plan: ProbePlan) -> Report:
    request = AnalysisRequest(ModelRequest("spec", spec), plan)
    return analyse(request, SpecSource(resolve(spec)), InProcessProber(), lambda _: None)


@pytest.fixture
def slow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pass takes a tenth of a second more than the pilot knew."""
    true_step = Pace.step

    def step(self: Pace) -> None:
        time.sleep(0.1)
        true_step(self)

    monkeypatch.setattr(Pace, "step", step)


@pytest.mark.usefixtures("slow_steps")
def test_a_first_training_that_does_not_end_in_time_is_given_up() -> None:
    began = time.perf_counter()
    report = report_on(tanh(2, 1e-3), replace(PLAN, optimizer=None))
    assert time.perf_counter() - began < PLAN.budget_seconds + SLACK
    assert report.cost.stages["trial"] <= PLAN.budget_seconds + 0.5
    assert report.trial is None
    assert report.diagnosis.decided_by == "static"
    assert any("before the short training did" in note for note in report.notes)


def test_a_training_in_time_is_not_told_of() -> None:
    report = report_on(tanh(2, 1e-3), replace(PLAN, budget_seconds=600.0))
    assert report.trial is not None
    assert not any(note.startswith("budget") for note in report.notes)


def test_what_takes_long_to_think_of_ends_recommending(monkeypatch: pytest.MonkeyPatch) -> None:
    true_propose = activation.ReplaceActivation.propose
    asked = []

    def slow(self: Any, case: Any) -> Any:
        asked.append(True)
        time.sleep(PLAN.budget_seconds + 1.5)
        return true_propose(self, case)

    monkeypatch.setattr(activation.ReplaceActivation, "propose", slow)
    report = report_on(tanh(16, 0.01), replace(PLAN, trial_steps=0))
    assert asked
    (note,) = [note for note in report.notes if "could be thought of" in note]
    assert "residual" in note
    assert "initializer" not in note
    assert "initializer" in {one.kind for one in report.recommendations}


def test_without_any_time_the_advice_is_given_all_the_same() -> None:
    report = report_on(tanh(16, 0.01), replace(PLAN, budget_seconds=1e-3))
    assert {"initializer", "activation", "clipping"} <= {o.kind for o in report.recommendations}
    assert all(one.effect is None for one in report.recommendations)


def test_a_changed_model_that_takes_long_to_build_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true_edited = edits.edited

    def slow(*given: Any) -> Any:
        time.sleep(0.3)
        return true_edited(*given)

    session = Session.open(PLAN, resolve(tanh(2, 0.1)), None)
    change = {"kind": "activation", "layers": [session.layers[0].name], "activation": "ReLU"}
    monkeypatch.setattr("service.probing.session.edited", slow)
    monkeypatch.setattr(session, "_measured", None)  # nothing is measured
    for seconds in (0.1, 0.2):
        with pytest.raises(ChangeRefused, match="time was over"):
            session.measure((change,), seconds=seconds)
