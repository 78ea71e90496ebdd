"""Advice is applied and measured before it is offered, and the smallest set that works is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from service.diagnosis.diagnose import wants_settling
from service.domain.architecture import Architecture
from service.domain.errors import ChangeRefused
from service.domain.findings import Diagnosis, Severity, Verdict
from service.domain.measurements import Measurements, Trial
from service.domain.recommendations import Effect, Prescription, Recommendation
from service.ports import ProbeSession
from service.prescription import Cure, Keep, layers_after, prescribe
from service.recommendation import training_effects
from service.recommendation.combination import changes_model, combined

TRAINED = frozenset({"learning_rate", "regularization"})
"""Kinds that change the training, and are kept only when a short training shows what they do."""
SETTLING_STEPS = 2
"""Optimizer steps before a second look: the first moves a zero-initialised last layer or branch,
the second lets the gradient through it (Zhang et al. 2019, Fixup; Goyal et al. 2017, §5.1)."""
MOST_TRIALS = 4
"""Sets of changes of one size that are trained, at most: each costs a short training."""
MOST_DOUBTFUL = 2
"""Of these, sets that the statistics do not call healthy and that are trained before others."""
LARGEST_SET = 3
"""Changes in one prescription, at most."""
MOST_LOOKS = 24
"""Sets of several changes that are measured, at most."""

NOTHING_FOUND = "no permitted change, and no three together, was found to make this train"
HALF_WAY = (
    "nothing permitted was found to bring the verdict to healthy ({tried}); the prescription is the"
    " smallest set found that brings it from unhealthy to at_risk"
)
RATE_ALONE = "no change of the model is needed: at the learning rate {rate:g} it trains"
OUT_OF_TIME = "budget: budget_seconds ended before every change was measured and a cure was found"

Judge = Callable[[Measurements, Measurements | None, Trial | None], Diagnosis]
"""By the pipeline's own rules, of a model's numbers, those after a second look, its training."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What may be offered."""

    recommendations: tuple[Recommendation, ...]
    """Those that helped, with their effect, and those that no probe can show."""
    prescription: Prescription | None
    """None when the model is healthy or nothing permitted cures it."""
    notes: tuple[str, ...]
    """What was tried in vain."""


def verify(
    session: ProbeSession,
    recommendations: Sequence[Recommendation],
    before: Diagnosis,
    measurements: Measurements,
    trial: Trial | None,
    judge: Judge,
    *,
    architecture: Architecture | None,
    may_train: bool,
    in_time: Callable[[], bool],
    keep: Keep | None = None,
) -> Verified:
    """Apply each recommendation in the same session, on the same seeds and batches; then look for
    the smallest set that brings the verdict to healthy, and train it. Nothing more is begun once
    `in_time` says no. Raises ProbeFailure."""
    bench = _Bench(session, before, measurements, judge, in_time)
    course = _Course(bench, trial, may_train=may_train)
    advised = [replace(one, effect=_effect(one, bench, course)) for one in recommendations]
    if before.verdict in {Verdict.HEALTHY, Verdict.INCONCLUSIVE}:
        kept = [one for one in advised if not _fails(one)]
        return Verified(_numbered(kept), None, tuple(_dropped(advised, kept, before)))
    search = _Search(bench, trial, may_train=may_train)
    rate = next((one for one in advised if one.kind == "learning_rate" and _helps(one)), None)
    cure = (search.run(_candidates(advised)) or search.eased) if rate is None else None
    kept = list(_proven(advised, cure, bench))
    notes = _dropped(advised, kept, before)
    numbered = _numbered(kept)
    if cure is None:
        nothing = f"{NOTHING_FOUND} ({search.tried()})" if in_time() else OUT_OF_TIME
        notes.append(nothing if rate is None else RATE_ALONE.format(rate=rate.change["lr"]))
        return Verified(numbered, None, (*notes, *_out_of_reach(before)))
    if cure is search.eased:
        notes += [HALF_WAY.format(tried=search.tried()), *_out_of_reach(before)]
    titles = {one.title for one in cure.chosen}
    chosen = tuple(one for one in numbered if one.title in titles)
    prescription, missing = prescribe(replace(cure, chosen=chosen), session, architecture, keep)
    seen = bench.measure(cure.chosen)  # remembered from the search
    if seen is not None:
        prescription = replace(prescription, layers_after=layers_after(seen.measurements))
    return Verified(numbered, prescription, (*notes, *missing))


def _effect(one: Recommendation, bench: _Bench, course: _Course) -> Effect | None:
    return bench.effect((one,)) if changes_model(one) else course.effect(one)


def _numbered(kept: Sequence[Recommendation]) -> tuple[Recommendation, ...]:
    return tuple(replace(one, id=f"r{index}") for index, one in enumerate(kept, start=1))


def _helps(recommendation: Recommendation) -> bool:
    return recommendation.effect is not None and recommendation.effect.verified is True


def _fails(recommendation: Recommendation) -> bool:
    return recommendation.effect is not None and recommendation.effect.verified is False


def _candidates(advised: Sequence[Recommendation]) -> list[Recommendation]:
    """What may be part of a cure: what could be applied. What does not help alone may help in
    company, as where an initialization dies behind an activation."""
    return [one for one in advised if changes_model(one) and one.effect is not None]


def _proven(
    advised: Sequence[Recommendation], cure: Cure | None, bench: _Bench
) -> Iterator[Recommendation]:
    """What stays: what helps, what no probe can show, and what the cure needs, which its training
    has shown. An edit that nothing shows to help goes."""
    needed = cure.chosen if cure else ()
    titles = [one.title for one in needed]
    for one in advised:
        if one.title in titles and one.effect is not None:
            yield _in_company(one, needed, bench)
        elif not _fails(one) and not _unseen(one):
            yield one


def _unseen(one: Recommendation) -> bool:
    return changes_model(one) and one.effect is not None and one.effect.verified is None


def _in_company(
    one: Recommendation, needed: tuple[Recommendation, ...], bench: _Bench
) -> Recommendation:
    """A part of the cure. Of one that does nothing alone the effect is that of all together."""
    assert one.effect is not None
    if not _fails(one):
        return replace(one, effect=replace(one.effect, verified=True))
    together = bench.effect(needed) or one.effect
    others = " and ".join(f"“{other.title}”" for other in needed if other.title != one.title)
    why = f"{one.why} Alone it is not enough; the effect is that of it and {others} together."
    return replace(one, why=why, effect=replace(together, verified=True))


def _dropped(
    advised: Sequence[Recommendation], kept: Sequence[Recommendation], before: Diagnosis
) -> list[str]:
    """What was tried in vain, as notes."""
    titles = {one.title for one in kept}
    return [
        f"tried and dropped: {one.title}; {_why_not(one.effect)}"
        for one in advised
        if one.title not in titles and one.effect is not None and not _off_topic(one, before)
    ]


def _off_topic(one: Recommendation, before: Diagnosis) -> bool:
    """What cannot be done in float16 is no news to a request for another precision."""
    asked = {f.evidence.get("precision") for f in before.findings if f.code in one.resolves}
    return one.kind == "loss_scaling" and asked.isdisjoint({"float16", "pure_float16"})


def _out_of_reach(before: Diagnosis) -> Iterator[str]:
    """What no kind of change alters, where nothing else cures."""
    for found in before.findings:
        if found.code == "narrow_layer":
            yield (
                f"narrow_layer: no kind of change widens a layer; {', '.join(found.layers)} with"
                f" {found.evidence['classes']} units or more is another architecture, and yours to"
                " choose"
            )


@dataclass(frozen=True, slots=True)
class _Seen:
    measurements: Measurements
    settled: Measurements | None
    """After a few optimizer steps, where zeros may only be a beginning."""


class _Bench:
    """Measures changed models and remembers what came out."""

    def __init__(
        self,
        session: ProbeSession,
        before: Diagnosis,
        measurements: Measurements,
        judge: Judge,
        in_time: Callable[[], bool],
    ) -> None:
        self.session = session
        self.before = before
        self.measurements = measurements
        self.judge = judge
        self.in_time = in_time
        self._measured: dict[tuple[str, ...], _Seen | None] = {}

    def effect(self, chosen: tuple[Recommendation, ...]) -> Effect | None:
        """Of all together; None when they cannot be made here (a path that depends on data, say),
        or no time is left."""
        seen = self.measure(chosen)
        if seen is None:
            return None
        diagnosis = self.judge(seen.measurements, seen.settled, None)
        earlier, later = _threats(self.before), _threats(diagnosis)
        resolved = tuple(code for code in earlier if code not in later)
        introduced = tuple(code for code in later if code not in earlier)
        better = bool(resolved) or _eased(earlier, later) or _rank(diagnosis) < self._static_rank()
        worse = any(later[code] is Severity.ERROR for code in introduced)
        # Where the training alone found the model sick, the training alone can show a cure.
        unseen = not (better or worse or self._static_rank() or _rank(diagnosis))
        return Effect(
            verified=None if unseen else better and not worse,
            before=_figures(self.before, self.measurements),
            after=_figures(diagnosis, seen.measurements),
            resolved=resolved,
            introduced=introduced,
        )

    def _static_rank(self) -> int:
        """Of the model as it came, by its statistics."""
        if self.before.decided_by == "static":
            return _rank(self.before)
        return _rank(self.judge(self.measurements, None, None))

    def measure(self, chosen: tuple[Recommendation, ...]) -> _Seen | None:
        """The model with these changes; None when they cannot be made or no time is left."""
        key = tuple(one.title for one in chosen)
        if key not in self._measured:
            if not self.in_time():
                return None
            try:
                self._measured[key] = self._see(combined(chosen))
            except ChangeRefused:
                self._measured[key] = None
        return self._measured[key]

    def verdict(self, seen: _Seen, trial: Trial | None) -> Verdict:
        """By the pipeline's rules."""
        return self.judge(seen.measurements, seen.settled, trial).verdict

    def _see(self, changes: tuple[dict[str, Any], ...]) -> _Seen:
        measurements = self.session.measure(changes)
        if not wants_settling(self.judge(measurements, None, None)):
            return _Seen(measurements, None)
        return _Seen(measurements, self.session.measure(changes, after_steps=SETTLING_STEPS))


class _Course:
    """Changes of the training: what no look at the model can show."""

    def __init__(self, bench: _Bench, trial: Trial | None, *, may_train: bool) -> None:
        self.bench = bench
        self.trial = trial
        self.may_train = may_train

    def effect(self, recommendation: Recommendation) -> Effect | None:
        """None for what is offered whatever it does, and where no time is left."""
        change = ({**recommendation.change, "kind": recommendation.kind},)
        try:
            if recommendation.kind == "loss_scaling":
                return self._scaled(recommendation, change) if self.bench.in_time() else None
            if recommendation.kind in TRAINED:
                return self._trained(recommendation, change)
        except ChangeRefused:
            pass
        return None

    def _trained(
        self, recommendation: Recommendation, change: tuple[dict[str, Any], ...]
    ) -> Effect | None:
        if not self.may_train:
            return training_effects.NOT_TRIED
        if not self.bench.in_time():
            return None
        self.trial = self.trial or self.bench.session.trial()
        after = self.bench.session.trial(change)
        return training_effects.effect(self.trial, after, recommendation.resolves)

    def _scaled(self, recommendation: Recommendation, change: tuple[dict[str, Any], ...]) -> Effect:
        later = self.bench.session.measure(change)
        return training_effects.scaled(self.bench.measurements, later, recommendation.resolves)


class _Search:
    """For the smallest set that brings the verdict to healthy; of one size those first whose
    members help alone, of these the least invasive. A cure is sure when each optimizer learns at
    the first rate it is tried at: of one that works at a high or low rate alone, fewer networks
    train in the end, so another of the same size is looked for, and it is the answer if there is
    none."""

    def __init__(self, bench: _Bench, trial: Trial | None, *, may_train: bool) -> None:
        self.bench = bench
        self.before = trial
        self.may_train = may_train
        self.left = MOST_TRIALS
        self.doubtful = MOST_DOUBTFUL
        self.eased: Cure | None = None
        """The first set found that takes an unhealthy model half-way."""
        self.trained = 0
        self.looked = 0

    def run(self, offered: Sequence[Recommendation]) -> Cure | None:
        """None when there is none, or the bounds are reached before it is found."""
        for size in range(1, LARGEST_SET + 1):
            self.left, self.doubtful = MOST_TRIALS, MOST_DOUBTFUL
            unsure: Cure | None = None
            for chosen in self._promising(offered, size):
                cure = self._proven(chosen)
                if cure is not None and _sure(cure.after):
                    return cure
                unsure = unsure or cure
            if unsure is not None:
                return unsure
        return None

    def _promising(
        self, offered: Sequence[Recommendation], size: int
    ) -> Iterator[tuple[Recommendation, ...]]:
        """Sets that the statistics do not rule out, the most doubtful ones last."""
        later = []
        for chosen in _sets(offered, size):
            verdict = self._verdict(chosen)
            if verdict is Verdict.AT_RISK and self.may_train:
                self.doubtful -= 1
                if self.doubtful < 0:
                    later.append(chosen)
                    continue
            elif verdict is not Verdict.HEALTHY:
                continue
            yield chosen
        yield from later

    def tried(self) -> str:
        """What it took."""
        return f"{self.looked} sets of several measured, {self.trained} trained"

    def _verdict(self, chosen: tuple[Recommendation, ...]) -> Verdict | None:
        """By the statistics; None where they cannot be had."""
        if len(chosen) > 1:
            if self.looked == MOST_LOOKS or not self.left:
                return None
            self.looked += 1
        seen = self.bench.measure(chosen)
        return None if seen is None else self.bench.verdict(seen, None)

    def _proven(self, chosen: tuple[Recommendation, ...]) -> Cure | None:
        """By the short training, where there is one."""
        if not self.may_train:
            return Cure(chosen, None, None)
        seen = self.bench.measure(chosen)
        if seen is None or not self.left or not self.bench.in_time():
            return None
        self.left -= 1
        self.trained += 1
        try:
            after = self.bench.session.trial(combined(chosen))
            verdict = self.bench.verdict(seen, after)
            if verdict is Verdict.HEALTHY:
                return Cure(chosen, self._trained_before(), after)
            sick = self.bench.before.verdict is Verdict.UNHEALTHY
            if verdict is Verdict.AT_RISK and sick and self.eased is None:
                self.eased = Cure(chosen, self._trained_before(), after, verdict)
        except ChangeRefused:
            pass
        return None

    def _trained_before(self) -> Trial:
        self.before = self.before or self.bench.session.trial()
        return self.before


def _sure(after: Trial | None) -> bool:
    """Whether every optimizer learned at once; without training there is nothing to doubt."""
    runs = after.runs if after else ()
    return all(run.learned for run in runs) and len({run.optimizer for run in runs}) == len(runs)


def _sets(offered: Sequence[Recommendation], size: int) -> list[tuple[Recommendation, ...]]:
    """Of so many changes of different kinds; those that help alone before others, least invasive
    first."""
    sets = (s for s in combinations(offered, size) if len({one.kind for one in s}) == size)
    return sorted(sets, key=lambda chosen: sum(map(_fails, chosen)))


def _threats(diagnosis: Diagnosis) -> dict[str, Severity]:
    return {
        found.code: found.severity
        for found in diagnosis.findings
        if found.severity.rank >= Severity.WARNING.rank and found.code != "untrainable"
    }


def _eased(earlier: dict[str, Severity], later: dict[str, Severity]) -> bool:
    return any(code in later and later[code].rank < earlier[code].rank for code in earlier)


def _rank(diagnosis: Diagnosis) -> int:
    return {Verdict.HEALTHY: 0, Verdict.AT_RISK: 1}.get(diagnosis.verdict, 2)


def _figures(diagnosis: Diagnosis, measurements: Measurements) -> dict[str, Any]:
    gains = sorted(
        layer.gradient.gain for layer in measurements.layers if layer.gradient.gain is not None
    )
    return {
        "verdict": diagnosis.verdict.value,
        "total_gain": measurements.model.total_gain,
        "median_gain": gains[len(gains) // 2] if gains else None,
        "loss_at_start": measurements.model.loss_at_start,
    }


def _why_not(effect: Effect) -> str:
    if effect.verified is None:
        return "nothing shows that it helps"
    if "verdict" not in effect.after:
        return "the training did not become better"
    if effect.introduced and effect.resolved:
        return f"it brought {', '.join(effect.introduced)}"
    return f"the verdict stayed {effect.after['verdict']}"
