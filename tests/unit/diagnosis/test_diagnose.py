"""The verdict: what the detectors and the short training say together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.diagnosis import diagnose, unmatched, wants_settling, wants_trial
from service.diagnosis.detector import Case, Reading
from service.diagnosis.outcome import LIKELIHOOD
from service.diagnosis.verdict import Belief, static_belief
from service.domain.findings import Diagnosis, Severity, Verdict
from service.domain.probe_plan import OptimizerPlan, ProbePlan
from service.domain.request import IgnoreRule

Table = Mapping[str, Any]
Build = Callable[[Table], Case]


def _chain(layers: int, per_layer: float) -> list[float]:
    return [0.1 * per_layer ** (layers - 1 - i) for i in range(layers)]


HEALTHY: Table = {"gradient": _chain(8, 0.98)}
VANISHING: Table = {"gradient": _chain(20, 0.2), "nonlinearity": "sigmoid"}
BETWEEN: Table = {"gradient": _chain(9, 0.41)}
SYMMETRIC: Table = {"gradient": [1e-8, 0.1, 0.1], "unit_spread": [0.0, 0.0, 0.9]}


def _diagnosed(case: Case, **more: Any) -> Diagnosis:
    return diagnose(case.measured, trial=case.trial, settled=case.settled, plan=case.plan, **more)


@pytest.mark.parametrize(
    ("table", "verdict"),
    [
        (HEALTHY, Verdict.HEALTHY),
        (VANISHING, Verdict.UNHEALTHY),
        (BETWEEN, Verdict.AT_RISK),
        (SYMMETRIC, Verdict.UNHEALTHY),
        ({"gradient": []}, Verdict.INCONCLUSIVE),
    ],
)
def test_static_verdict(table: Table, verdict: Verdict, case_of: Build) -> None:
    found = _diagnosed(case_of(table))
    assert found.verdict is verdict
    assert found.decided_by == "static"
    errors = [f for f in found.findings if f.severity is Severity.ERROR]
    assert bool(errors) == (verdict is Verdict.UNHEALTHY)


def test_summary_is_one_sentence_that_names_the_problem(case_of: Build) -> None:
    summary = _diagnosed(case_of(VANISHING)).summary
    assert summary == (
        "Gradients vanish: fc1 receives 5.2e-14 of the gradient at fc20 (sigmoid, 0.2x per layer)."
    )


def test_cause_comes_before_its_consequence(case_of: Build) -> None:
    codes = [finding.code for finding in _diagnosed(case_of(SYMMETRIC)).findings]
    assert codes[:2] == ["symmetric_initialization", "vanishing_gradient"]


@pytest.mark.parametrize(
    ("table", "trial", "verdict"),
    [
        (BETWEEN, {"sgd": True, "adam": True}, Verdict.HEALTHY),
        (BETWEEN, {"sgd": False, "adam": True}, Verdict.AT_RISK),
        (VANISHING, {"sgd": False, "adam": False}, Verdict.UNHEALTHY),
        ({"gradient": _chain(11, 0.3)}, {"sgd": False, "adam": False}, Verdict.UNHEALTHY),
    ],
)
def test_trial_decides(
    table: Table, trial: dict[str, bool], verdict: Verdict, case_of: Build
) -> None:
    found = _diagnosed(case_of({**table, "trial": trial}))
    assert found.verdict is verdict
    assert found.decided_by == "trial"
    errors = [f for f in found.findings if f.severity is Severity.ERROR]
    assert bool(errors) == (verdict is Verdict.UNHEALTHY)


@pytest.mark.parametrize("layers", [2, 8, 30])
def test_a_failed_trial_alone_does_not_condemn_what_is_surely_healthy(
    layers: int, case_of: Build
) -> None:
    case = case_of({"gradient": [0.1] * layers, "trial": {"sgd": False, "adam": False}})
    assert _diagnosed(case).verdict is not Verdict.UNHEALTHY


def test_summary_says_which_optimizer_trains(case_of: Build) -> None:
    table = {**BETWEEN, "trial": {"sgd": False, "adam": True}}
    summary = _diagnosed(case_of(table)).summary
    assert summary.startswith("Adam trains this, SGD does not. Gradients vanish: fc1 receives")


def test_sgd_named_fails_where_only_sgd_fails(case_of: Build) -> None:
    case = case_of({"gradient": _chain(10, 0.35), "optimizer": "sgd"})
    assert _diagnosed(case).verdict is Verdict.UNHEALTHY
    case = case_of({"gradient": _chain(10, 0.35), "optimizer": "adam"})
    assert _diagnosed(case).verdict is Verdict.AT_RISK


def test_suppressed_findings_count_for_nothing(case_of: Build) -> None:
    rules = (
        IgnoreRule("vanishing_gradient", reason="known"),
        IgnoreRule("dead_units", "stem.*"),
    )
    found = _diagnosed(case_of(VANISHING), ignore=rules)
    assert found.verdict is Verdict.HEALTHY
    assert [s.finding.code for s in found.suppressed] == ["vanishing_gradient"]
    assert found.suppressed[0].reason == "known"
    assert unmatched(found, rules) == rules[1:]


def test_rule_on_layers_must_cover_the_whole_finding(case_of: Build) -> None:
    one = IgnoreRule("vanishing_gradient", "fc1")
    every = IgnoreRule("vanishing_gradient", "fc*")
    assert not _diagnosed(case_of(VANISHING), ignore=(one,)).suppressed
    assert _diagnosed(case_of(VANISHING), ignore=(every,)).suppressed


def test_wants_settling_where_zeros_may_be_a_beginning(case_of: Build) -> None:
    zero_head = {"gradient": [0.0, 0.0, 0.0, 0.1], "weight_rms": [0.1, 0.1, 0.1, 0.0]}
    small_head = {"gradient": [1e-5, 1e-5, 1e-5, 0.1]}
    assert wants_settling(_diagnosed(case_of(zero_head)))
    assert wants_settling(_diagnosed(case_of(small_head)))
    assert not wants_settling(_diagnosed(case_of(VANISHING)))
    assert not wants_settling(_diagnosed(case_of(HEALTHY)))


def test_settled_healthy_is_healthy_and_asks_no_more(case_of: Build) -> None:
    table = {"gradient": [0.0, 0.0, 0.1], "settled": {"gradient": [0.02, 0.03, 0.1]}}
    found = _diagnosed(case_of(table))
    assert found.verdict is Verdict.HEALTHY
    assert not wants_settling(found)


def test_wants_trial_only_where_the_statistics_are_not_sure(case_of: Build) -> None:
    assert not wants_trial(_diagnosed(case_of(HEALTHY)), ProbePlan())
    assert not wants_trial(_diagnosed(case_of(VANISHING)), ProbePlan())
    assert wants_trial(_diagnosed(case_of(BETWEEN)), ProbePlan())
    tried = case_of({**BETWEEN, "trial": {"sgd": False, "adam": True}})
    assert not wants_trial(_diagnosed(tried), ProbePlan())


def test_likelihoods_are_shares() -> None:
    for label in range(3):
        assert 0.6 < sum(row[label] for row in LIKELIHOOD.values()) < 1.01


def test_very_deep_plain_stacks_and_recurrent_layers_are_doubted(case_of: Build) -> None:
    deep: Table = {"gradient": [0.1] * 50}
    assert _diagnosed(case_of(deep)).verdict is Verdict.HEALTHY
    assert wants_trial(_diagnosed(case_of(deep)), ProbePlan())
    recurrent: Table = {"gradient": [0.05, 0.1], "op": ["lstm", "linear"]}
    assert _diagnosed(case_of(recurrent)).verdict is Verdict.HEALTHY
    assert wants_trial(_diagnosed(case_of(recurrent)), ProbePlan())
    residual = {**deep, "residual": [i % 2 == 1 for i in range(50)]}
    assert not wants_trial(_diagnosed(case_of(residual)), ProbePlan())


@pytest.mark.parametrize(
    ("belief", "verdict", "confidence"),
    [
        (Belief(0.8, 0.15, 0.05), Verdict.UNHEALTHY, 0.8),
        (Belief(0.25, 0.7, 0.05), Verdict.UNHEALTHY, 0.5),
        (Belief(0.15, 0.6, 0.25), Verdict.AT_RISK, 0.6),
        (Belief(0.41, 0.1, 0.49), Verdict.HEALTHY, 0.49),
        (Belief(0.1, 0.3, 0.6), Verdict.HEALTHY, 0.6),
    ],
)
def test_verdict_of_a_belief(belief: Belief, verdict: Verdict, confidence: float) -> None:
    assert belief.verdict is verdict
    assert belief.confidence == confidence


@given(
    layers=st.integers(2, 60),
    per_layer=st.floats(0.2, 5.0),
    seeds=st.lists(st.floats(0.5, 2.0), min_size=1, max_size=4),
    dead=st.floats(0.0, 1.0),
    trial=st.none() | st.fixed_dictionaries({"sgd": st.booleans(), "adam": st.booleans()}),
    optimizer=st.none() | st.sampled_from(["sgd", "adam"]),
)
def test_unhealthy_exactly_when_there_is_an_error(
    case_of: Build, trial: dict[str, bool] | None, **table: Any
) -> None:
    layers, per_layer = table.pop("layers"), table.pop("per_layer")
    tried = {"trial": trial} if trial is not None else {}
    found = _diagnosed(case_of({**table, **tried, "gradient": _chain(layers, per_layer)}))
    errors = [f for f in found.findings if f.severity is Severity.ERROR]
    assert bool(errors) == (found.verdict is Verdict.UNHEALTHY)
    assert 0.0 < found.confidence <= 1.0
    assert found.summary.endswith(".")
    ranks = [f.severity.rank for f in found.findings]
    assert ranks == sorted(ranks, reverse=True)


def test_causes_add_up_to_a_failure() -> None:
    fading, blurred = Reading(error=0.12, warning=0.99), Reading(error=0.15, warning=0.99)
    assert static_belief([fading], None).verdict is Verdict.AT_RISK
    assert static_belief([blurred], None).verdict is Verdict.AT_RISK
    assert static_belief([fading, blurred], None).verdict is Verdict.UNHEALTHY


probability = st.floats(0.0, 1.0)


@given(st.lists(st.tuples(probability, probability), max_size=5))
def test_belief_is_a_distribution(pairs: list[tuple[float, float]]) -> None:
    readings = [Reading(error=min(pair), warning=max(pair)) for pair in pairs]
    for optimizer in (None, OptimizerPlan("sgd", 0.1), OptimizerPlan("adam", 1e-3)):
        belief = static_belief(readings, optimizer)
        assert belief.unhealthy + belief.at_risk + belief.healthy == pytest.approx(1.0)
        assert min(belief.unhealthy, belief.at_risk, belief.healthy) > 0.0
        assert belief.confidence >= 0.2


def test_recurrent_layers_are_doubted_where_their_steps_tell_too_little(case_of: Build) -> None:
    told: Table = {"gradient": [0.05, 0.1], "op": ["lstm", "linear"], "gain": [0.3, 0.5]}
    told = {**told, "steps": 8, "memory": 0.8}
    assert not wants_trial(_diagnosed(case_of(told)), ProbePlan())
    assert wants_trial(_diagnosed(case_of({**told, "steps": 64, "memory": 0.95})), ProbePlan())
    untold = {key: value for key, value in told.items() if key != "steps"}
    assert wants_trial(_diagnosed(case_of(untold)), ProbePlan())


def test_fading_memory_stops_half_way_and_is_no_error(case_of: Build) -> None:
    fading: Table = {"gradient": [0.05, 0.1], "op": ["rnn", "linear"], "steps": 64, "memory": 0.6}
    for optimizer in (None, "sgd", "adam"):
        found = _diagnosed(case_of({**fading, "optimizer": optimizer}))
        assert found.verdict is Verdict.AT_RISK
        assert [f.code for f in found.findings] == ["fading_memory"]
    learned = {**fading, "trial": {"sgd": True, "adam": True}}
    assert _diagnosed(case_of(learned)).verdict is Verdict.AT_RISK
