"""Measurements in, diagnosis out: every detector reads the case, the verdict weighs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from service.diagnosis import thresholds
from service.diagnosis.detector import Case, Reading
from service.diagnosis.detectors import ALL_DETECTORS
from service.diagnosis.doubt import doubt, doubted_for
from service.diagnosis.outcome import OPTIMIZERS, learned_by, outcome_of_named
from service.diagnosis.profile import gradient_fall, gradient_growth
from service.diagnosis.signs import signs
from service.diagnosis.sixteen_bits import PURE
from service.diagnosis.verdict import (
    Belief,
    settled_belief,
    static_belief,
    tried,
    tried_as_named,
    unseen,
)
from service.domain.baseline import Baseline
from service.domain.findings import Diagnosis, Finding, Severity, Suppressed, Verdict
from service.domain.measurements import Measurements, Trial
from service.domain.probe_plan import ProbePlan
from service.domain.request import IgnoreRule


def diagnose(
    measurements: Measurements,
    *,
    trial: Trial | None = None,
    settled: Measurements | None = None,
    plan: ProbePlan,
    ignore: Sequence[IgnoreRule] = (),
    baseline: Baseline | None = None,
) -> Diagnosis:
    """Judge one model.

    `settled`: the same model measured after a few optimizer steps (see `wants_settling`);
    `trial`: its short trainings (see `wants_trial`); `baseline`: what to compare with, which adds a
    finding and changes no verdict. A finding matched by `ignore` is moved to
    `suppressed` and counts for nothing. The verdict is unhealthy exactly when a finding of
    severity error is left. With no layer measured it is inconclusive.
    """
    case = Case(measurements, plan, settled, trial, baseline)
    told, suppressed = _read(case, ignore)
    raw = static_belief(told, plan.optimizer, doubt(measurements, settled))
    belief = _in_the_light_of(trial, raw, plan, unseen(told))
    decided_by = "static" if belief is None else "trial"
    belief = belief or settled_belief(raw)
    verdict = belief.verdict if measurements.layers else Verdict.INCONCLUSIVE
    findings = _agreeing([r.finding for r in told if r.finding is not None], verdict)
    if verdict is Verdict.UNHEALTHY and not any(_is_error(f) for f in findings):
        verdict = Verdict.AT_RISK
    return Diagnosis(
        verdict=verdict,
        confidence=round(belief.confidence, 2) if measurements.layers else 0.0,
        decided_by=decided_by,
        summary=_summary(verdict, findings, case),
        findings=tuple(findings),
        suppressed=suppressed,
    )


def _in_the_light_of(
    trial: Trial | None, raw: Belief, plan: ProbePlan, hidden: float
) -> Belief | None:
    """None when there was no training, or it was too slow to tell."""
    if plan.optimizer is None:
        return None if trial is None or not trial.runs else tried(raw, signs(trial), unseen=hidden)
    result = outcome_of_named(trial)
    return None if result is None else tried_as_named(raw, result)


def wants_settling(diagnosis: Diagnosis) -> bool:
    """Whether step 0 alone could mislead: no gradient at all reaches the first layers, or most of
    its fall stands at one layer, as with zero-initialised last layers, residual branches, LoRA-B
    or a small head. Then measure again after two optimizer steps."""
    for found in diagnosis.findings:
        if found.code == "vanishing_gradient" and not found.evidence["after_steps"]:
            fall, drop = found.evidence["decades"], found.evidence["largest_drop"]
            return bool(drop >= thresholds.CONCENTRATED_DROP * fall)
    return False


def wants_trial(diagnosis: Diagnosis, plan: ProbePlan) -> bool:
    """Whether the static statistics are not sure and a short training should decide. At risk
    always asks: which optimizer trains it is for the training to say. So does an optimizer that
    the request names: the statistics know nothing of its rate."""
    if diagnosis.decided_by == "trial" or diagnosis.verdict is Verdict.INCONCLUSIVE:
        return False
    # Nor do they know what parameters of 16 bits make of small steps.
    if diagnosis.verdict is not Verdict.UNHEALTHY and (
        plan.optimizer is not None or plan.precision in PURE
    ):
        return True
    return diagnosis.verdict is Verdict.AT_RISK or diagnosis.confidence < thresholds.SURE


def unmatched(diagnosis: Diagnosis, ignore: Sequence[IgnoreRule]) -> tuple[IgnoreRule, ...]:
    """The rules that matched no finding, for a note to the caller."""
    return tuple(
        rule
        for rule in ignore
        if not any(_matches(rule, suppressed.finding) for suppressed in diagnosis.suppressed)
    )


def _read(case: Case, ignore: Sequence[IgnoreRule]) -> tuple[list[Reading], tuple[Suppressed, ...]]:
    told: list[Reading] = []
    suppressed: list[Suppressed] = []
    for detector in ALL_DETECTORS:
        reading = detector.read(case)
        found = reading.finding
        rule = next((r for r in ignore if found is not None and _matches(r, found)), None)
        if rule is not None and found is not None:
            suppressed.append(Suppressed(found, rule.reason))
        else:
            told.append(reading)
    return told, tuple(suppressed)


def _matches(rule: IgnoreRule, found: Finding) -> bool:
    if rule.code != found.code:
        return False
    return rule.layers == "*" or (
        bool(found.layers) and all(fnmatchcase(layer, rule.layers) for layer in found.layers)
    )


def _agreeing(findings: list[Finding], verdict: Verdict) -> list[Finding]:
    """Severities that agree with the verdict, worst first: an error only where the verdict is
    unhealthy; where it is, what puts training at risk is an error when nothing worse is
    left."""
    if verdict is not Verdict.UNHEALTHY:
        findings = [_demoted(f) for f in findings]
    elif not any(_is_error(f) for f in findings):
        findings = [_promoted(f) for f in findings]
    return sorted(findings, key=lambda f: -f.severity.rank)


def _demoted(found: Finding) -> Finding:
    return replace(found, severity=Severity.WARNING) if _is_error(found) else found


def _promoted(found: Finding) -> Finding:
    threatens = found.code in THREATS and found.severity is Severity.WARNING
    return replace(found, severity=Severity.ERROR) if threatens else found


THREATS = frozenset(
    {
        "vanishing_gradient",
        "exploding_gradient",
        "drowned_signal",
        "rank_collapse",
        "narrow_layer",
        "dead_units",
        "saturated_activation",
        "poor_initialization",
        "untrainable",
    }
)
"""Codes whose warnings speak about training."""


def _is_error(found: Finding) -> bool:
    return found.severity is Severity.ERROR


def _summary(verdict: Verdict, findings: Sequence[Finding], case: Case) -> str:
    if verdict is Verdict.INCONCLUSIVE:
        return _nothing_to_train(case)
    if verdict is Verdict.HEALTHY:
        return _healthy(case)
    worst = next((f for f in findings if f.severity.rank >= Severity.WARNING.rank), None)
    problem = f"{worst.title}: {_first_sentence(worst)}" if worst else _odd(case)
    return f"{_who_trains(case.trial)}{problem}"


FULL = frozenset({"float32", "float64"})
"""Precisions that go without saying."""
EVEN = 0.05
"""Decades that round to nothing."""


def _odd(case: Case) -> str:
    """Why training is at risk although no single problem stands out."""
    reasons = doubted_for(case.measured, case.settled)
    return f"Training is at risk: {reasons}." if reasons else "Training is at risk."


def _healthy(case: Case) -> str:
    named = case.plan.optimizer
    who = OPTIMIZERS.get(named.name, named.name) if named else "SGD with momentum and Adam"
    fall, growth = gradient_fall(case.flow), gradient_growth(case.flow)
    kept = ""
    if fall and growth:
        moved, how = max((fall.median, "fall"), (growth.median, "grow"))
        kept = (
            f" (gradients {how} {moved:.1f} decades over depth)"
            if moved >= EVEN
            else " (gradients keep their size over depth)"
        )
    where = "" if case.plan.precision in FULL else f" in {case.plan.precision}"
    return f"This trains as it stands with {who}{where}{kept}."


def _nothing_to_train(case: Case) -> str:
    at_input = case.measured.model.input_grad_norm
    if at_input is None:
        return "Nothing could be measured: the model has no layers that a gradient reaches."
    return f"The model has no parameters to train; the gradient at its input is {at_input:.2g}."


def _who_trains(trial: Trial | None) -> str:
    learned = learned_by(trial)
    does = [OPTIMIZERS.get(name, name) for name, did in learned.items() if did]
    fails = [OPTIMIZERS.get(name, name) for name, did in learned.items() if not did]
    if trial is None or not does or not fails:
        return ""
    soon = min(len(run.loss) for run in trial.runs if run.learned) <= trial.steps
    late = "" if soon else " late"
    return f"{' and '.join(does)} trains this{late}, {' and '.join(fails)} does not. "


def _first_sentence(found: Finding) -> str:
    """Up to the first full stop that ends a sentence (not one inside a number), to be put after a
    colon."""
    sentence = found.detail.split(". ", maxsplit=1)[0].rstrip(".") + "."
    begins_with_name = sentence.startswith(found.layers) or sentence[:2].isupper()
    return sentence if begins_with_name else sentence[:1].lower() + sentence[1:]
