"""The story on one page: probe → diagnose → recommend → verify → report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from service.diagnosis.diagnose import diagnose, unmatched, wants_settling, wants_trial
from service.domain.analysis import Stage
from service.domain.architecture import Architecture
from service.domain.baseline import Baseline
from service.domain.errors import ChangeRefused
from service.domain.findings import Diagnosis, Severity, Verdict
from service.domain.measurements import Measurements, ModelFacts, Trial
from service.domain.model_source import ModelSource, SpecSource
from service.domain.probe_plan import ProbePlan
from service.domain.progress import Progress, progress
from service.domain.recommendations import Recommendation
from service.domain.report import Cost, Report
from service.domain.request import AnalysisRequest
from service.losable_session import LosableSession
from service.ports import Prober, ProbeSession
from service.prescription import Keep
from service.recommendation.keras_source import in_keras
from service.recommendation.recommend import recommend
from service.theory.prediction import with_predictions
from service.verification.allowance import Allowance
from service.verification.bench import SETTLING_STEPS, Bench, Judge, Submitted
from service.verification.notes import BEFORE_UNKNOWN, NOT_COMPARED, OUT_OF_TIME
from service.verification.verify import Advise, Verified, verify


def analyse(
    request: AnalysisRequest,
    source: ModelSource,
    prober: Prober,
    tell: Callable[[Progress], None],
    keep: Keep | None = None,
    find_baseline: Callable[[str], Baseline | None] = lambda _: None,
) -> Report:
    """Answer one request. A child that is lost after the diagnosis costs what it had still to
    verify, and no more. `keep`: stores the repaired weights. `find_baseline`: the analysis of this
    id, to compare with; None when it is gone. Raises ProbeFailure, SandboxUnavailable."""
    watch = _Stopwatch(tell)
    plan = request.probe
    with watch.stage(Stage.LOAD), prober.open(source, plan, watch.underway) as session:
        facts = session.facts
        with watch.stage(Stage.PROBE):
            measurements = with_predictions(session.measure())
        with watch.stage(Stage.DIAGNOSE):
            diagnosis, settled = _static(request, session, measurements)
        left = partial(watch.left, plan.budget_seconds)
        rest = LosableSession(session, watch.tell_again, watch.answered, left)
        late = _Late(left)
        trial: Trial | None = None
        if facts.trial_steps and wants_trial(diagnosis, plan):
            with watch.stage(Stage.TRIAL):
                trial = _trained(rest)
            if trial is None:
                late.untrained = rest.loss is None
            else:
                diagnosis = _judge(request)(measurements, settled, trial)
        with watch.stage(Stage.RECOMMEND):
            architecture = source.architecture if isinstance(source, SpecSource) else None
            advise = _adviser(request, architecture, facts.batch_size, late.begins)
            advice = advise(diagnosis, measurements, trial)
        with watch.stage(Stage.VERIFY, expected=len(advice)):
            submitted = Submitted(diagnosis, measurements, trial)
            allowance = Allowance(
                lambda: left() if rest.loss is None else 0.0,
                watch.seconds[Stage.PROBE.value] / (facts.seeds * facts.batches),
            )
            verified = verify(
                Bench(rest, submitted, _judge(request), allowance),
                advice,
                architecture=architecture,
                may_train=facts.trial_steps > 0,
                keep=keep if request.retain == "all" else None,
                advise=advise,
            )
        peak = session.peak_memory_mb()
    baseline = _baseline(request, find_baseline)
    if baseline is not None:
        diagnosis = diagnose(
            measurements,
            settled=settled,
            trial=trial,
            plan=plan,
            ignore=request.ignore,
            baseline=baseline,
        )
    return Report(
        facts=facts,
        probe=_as_used(plan, facts, measurements),
        diagnosis=diagnosis,
        recommendations=verified.recommendations,
        prescription=verified.prescription,
        model=measurements.model,
        layers=measurements.layers,
        trial=trial,
        cost=Cost(watch.total(), facts.device, peak, watch.seconds),
        notes=request.model.notes
        + measurements.notes
        + _unused_rules(request, diagnosis)
        + _baseline_notes(request, baseline, measurements)
        + late.notes()
        + _verified_notes(verified, rest),
        passed=passes(diagnosis, request.fail_on),
        baseline=baseline.id if baseline else None,
    )


def passes(diagnosis: Diagnosis, fail_on: Severity | None) -> bool:
    """False for a finding at or above `fail_on`, and for a verdict that could not be given."""
    if diagnosis.verdict is Verdict.INCONCLUSIVE:
        return False
    return fail_on is None or all(
        finding.severity.rank < fail_on.rank for finding in diagnosis.findings
    )


def _static(
    request: AnalysisRequest, session: ProbeSession, measurements: Measurements
) -> tuple[Diagnosis, Measurements | None]:
    """What the statistics alone say, after a second look where zeros may only be a beginning."""
    diagnosis = diagnose(measurements, plan=request.probe, ignore=request.ignore)
    if not wants_settling(diagnosis):
        return diagnosis, None
    settled = session.measure(after_steps=SETTLING_STEPS)
    return (
        diagnose(measurements, settled=settled, plan=request.probe, ignore=request.ignore),
        settled,
    )


def _baseline(
    request: AnalysisRequest, find_baseline: Callable[[str], Baseline | None]
) -> Baseline | None:
    wanted = request.baseline
    return find_baseline(wanted.id) if wanted is not None and wanted.id is not None else None


def _baseline_notes(
    request: AnalysisRequest, baseline: Baseline | None, measurements: Measurements
) -> tuple[str, ...]:
    """Why there is no comparison, or nothing in it."""
    wanted = request.baseline
    if wanted is None:
        return ()
    label = f"{wanted.key}:{wanted.value}"
    if wanted.id is None:
        return (f"baseline: no analysis that succeeded carries the label {label} yet",)
    if baseline is None:
        return (f"baseline: {wanted.id}, the newest with the label {label}, was deleted since",)
    names = {layer.name for layer in baseline.layers}
    if not any(layer.name in names for layer in measurements.layers):
        return (f"baseline: {baseline.id} has no layer of the same name, nothing was compared",)
    return ()


def _trained(session: LosableSession) -> Trial | None:
    """The short training; None when the child was lost over it."""
    try:
        return session.trial()
    except ChangeRefused:
        return None


def _verified_notes(verified: Verified, session: LosableSession) -> tuple[str, ...]:
    """What was tried in vain, and what could not be tried."""
    if session.loss is None:
        return verified.notes
    # The budget did not come to its end: the child did.
    notes = (note for note in verified.notes if note != OUT_OF_TIME)
    return (
        *(NOT_COMPARED if note == BEFORE_UNKNOWN else note for note in notes),
        f"{session.loss.code}: {session.loss.detail}; the diagnosis was ready by then, and "
        "recommendations without effect are not verified",
    )


def _judge(request: AnalysisRequest) -> Judge:
    """How a changed model is judged: by the same rules, on its own numbers."""

    def judge(
        measurements: Measurements, settled: Measurements | None, trial: Trial | None
    ) -> Diagnosis:
        return diagnose(
            measurements, settled=settled, trial=trial, plan=request.probe, ignore=request.ignore
        )

    return judge


def _unused_rules(request: AnalysisRequest, diagnosis: Diagnosis) -> tuple[str, ...]:
    """An exception that excepts nothing is likely a typing error, or can go."""
    return tuple(
        f"ignore: no finding {rule.code!r} at layers {rule.layers!r}; the rule can go"
        for rule in unmatched(diagnosis, request.ignore)
    )


def _as_used(plan: ProbePlan, facts: ModelFacts, measurements: Measurements) -> dict[str, Any]:
    """The probe with every "auto" resolved, in the words of the request."""
    resolved = replace(
        plan,
        inputs=facts.inputs,
        batch_size=facts.batch_size,
        batches=facts.batches,
        seeds=facts.seeds,
        trial_steps=facts.trial_steps,
        loss=measurements.model.loss,
        device=facts.device,
    )
    return asdict(resolved)


GRACE_SECONDS = 1.0
"""That recommending may take in any case: most kinds of change take milliseconds to think of, and
advice that is not verified is better than none."""


def _adviser(
    request: AnalysisRequest,
    architecture: Architecture | None,
    batch_size: int,
    in_time: Callable[[str], bool],
) -> Advise:
    """Recommendations in the words of what was sent."""

    def advise(
        diagnosis: Diagnosis, measurements: Measurements, trial: Trial | None
    ) -> tuple[Recommendation, ...]:
        advice = recommend(
            diagnosis,
            measurements,
            architecture=architecture,
            batch_size=batch_size,
            trial=trial,
            allowed_changes=request.allowed_changes,
            optimizer=request.probe.optimizer,
            in_time=in_time,
        )
        if request.model.kind != "keras" or architecture is None:
            return advice
        return tuple(replace(one, code=in_keras(one, architecture)) for one in advice)

    return advise


class _Late:
    """What the end of the budget left undone before the verification."""

    def __init__(self, left: Callable[[], float]) -> None:
        """`left`: seconds of the budget."""
        self._left = left
        self.untrained = False
        """The verdict asked for a short training that did not end in time."""
        self._until: float | None = None
        """Seconds of the budget that are left when recommending ends."""
        self._skipped: list[str] = []

    def begins(self, kind: str) -> bool:
        """Whether recommendations of this kind are looked for."""
        left = self._left()
        self._until = min(left, 0.0) - GRACE_SECONDS if self._until is None else self._until
        if left > self._until:
            return True
        self._skipped.append(kind)
        return False

    def notes(self) -> tuple[str, ...]:
        """In words."""
        told = []
        if self.untrained:
            told.append(
                "budget: budget_seconds ended before the short training did; the verdict is that "
                "of the statistics alone"
            )
        if self._skipped:
            told.append(
                f"budget: budget_seconds ended before {', '.join(self._skipped)} could be thought "
                "of"
            )
        return tuple(told)


class _Stopwatch:
    """Tells how far it is, and keeps how long each stage took by itself."""

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        self._tell = tell
        self._now = progress(Stage.LOAD)
        self._answered = 0
        self._expected: int | None = None
        self._started = time.perf_counter()
        self._inner = 0.0
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, stage: Stage, *, expected: int | None = None) -> Iterator[None]:
        """Time one stage; stages within it are taken off its own time. `expected`: asks of the
        child that it is known to have, where they may become more."""
        self._answered, self._expected = 0, expected
        self._come_to(progress(stage))
        began, before = time.perf_counter(), self._inner
        try:
            yield
        finally:
            took = time.perf_counter() - began
            own = took - (self._inner - before)
            self._inner = before + took
            self.seconds[stage.value] = round(self.seconds.get(stage.value, 0.0) + own, 6)

    def answered(self) -> None:
        """The child has answered one ask of the stage under way."""
        self._answered += 1
        self.underway(0.0)

    def underway(self, share: float) -> None:
        """The child has done so much of the next ask, 0 … 1."""
        now = progress(self._now.stage, self._answered + share, self._expected)
        # An ask that is refused half-way is not answered: the next begins where it began.
        self._come_to(max(self._now, now, key=lambda one: one.percent))

    def tell_again(self) -> None:
        """Tell once more where it is: whoever watches may say that all is in vain."""
        self._tell(self._now)

    def _come_to(self, now: Progress) -> None:
        self._now = now
        self._tell(now)

    def total(self) -> float:
        """Seconds since the analysis began."""
        return round(time.perf_counter() - self._started, 6)

    def left(self, budget_seconds: float) -> float:
        """Of so many, ≤ 0 when they are over."""
        return budget_seconds - self.total()
