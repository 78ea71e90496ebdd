"""The smallest set of changes that makes the model train."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from service.diagnosis.thresholds import SURE
from service.domain.errors import ChangeRefused
from service.domain.findings import Verdict
from service.domain.measurements import Trial
from service.domain.recommendations import Recommendation
from service.prescription import Cure
from service.recommendation.combination import combined
from service.recommendation.training_effects import best_runs, no_worse
from service.verification.bench import Bench

MOST_TRIALS = 4
"""Sets of changes of one size that are trained, at most: each costs a short training."""
MOST_DOUBTFUL = 3
"""Of these, sets that the statistics do not call healthy: a training is left for one that they do,
should the less invasive ones not learn."""
LARGEST_SET = 3
"""Changes in one prescription, at most."""
MOST_LOOKS = 24
"""Sets of several changes that are measured, at most."""
Set = tuple[Recommendation, ...]
"""Changes that are made together."""
LESS_DOUBT = 0.5
"""Share of the doubt about a less invasive cure, below which another is preferred to it."""


class Search:
    """For the smallest set that brings the verdict to healthy; of one size those first whose
    members help alone, of these the least invasive. A cure is sure when each optimizer learns at
    the first rate it is tried at: of one that works at a high or low rate alone, fewer networks
    train in the end. Where it is not, or the model as changed is healthy at less than SURE, another
    of the same size is looked for that is sure, or leaves half the doubt; the first is the answer
    if there is none. What trains half-way as it came is changed only where the short training
    becomes no worse by it."""

    def __init__(self, bench: Bench, *, may_train: bool) -> None:
        self.bench = bench
        self.before = bench.submitted.trial
        self.may_train = may_train
        self.left = MOST_TRIALS
        self.doubtful = MOST_DOUBTFUL
        self.eased: Cure | None = None
        """The first set found that takes an unhealthy model half-way."""
        self.trained = 0
        self.looked = 0
        self.worsened = 0
        """Sets that the verdict favours and the short training does not."""

    @property
    def half_way(self) -> bool:
        """The submitted model trains, if not with every optimizer or not far."""
        return self.bench.submitted.diagnosis.verdict is Verdict.AT_RISK

    def run(self, offered: Sequence[Recommendation]) -> Cure | None:
        """None when there is none, or the bounds are reached before it is found."""
        if self.half_way and not self.may_train:
            return None
        for size in range(1, LARGEST_SET + 1):
            best = self._best(_sets(offered, size))
            if best is not None:
                return best
        return None

    def beyond(self, eased: Cure, offered: Sequence[Recommendation]) -> Cure | None:
        """With one more change than took the model half-way; None when there is none, or the bounds
        are reached before it is found."""
        if len(eased.chosen) == LARGEST_SET:
            return None
        return self._best((*eased.chosen, one) for one in offered)

    def compared(self, cure: Cure) -> Cure:
        """With the short training of the submitted model to lay beside that of the changed one.
        Where no rule needs more of it than that, it is trained at the rates that suit the changed
        model best, on the same batches: at all the usual ones, a model that learns at none would
        take most of the answer's time to show it again and again."""
        if cure.after is None:
            return cure
        suited = {name: run.lr for name, run in best_runs(cure.after).items()}
        return replace(cure, before=self._trained_before(suited))

    def tried(self) -> str:
        """What it took."""
        return f"{self.looked} sets of several measured, {self.trained} trained"

    def _best(self, sets: Iterable[Set]) -> Cure | None:
        """Of sets of one size."""
        self.left, self.doubtful = MOST_TRIALS, MOST_DOUBTFUL
        best: Cure | None = None
        for chosen in self._promising(sets):
            cure = self._proven(chosen)
            if cure is None or (best is not None and not _preferred(cure, best)):
                continue
            best = cure
            if _sure(best.after) and best.confidence >= SURE:
                break
        return best

    def _promising(self, sets: Iterable[Set]) -> Iterator[Set]:
        """Those that the statistics do not rule out, the most doubtful ones last."""
        later = []
        for chosen in sets:
            verdict = self._verdict(chosen)
            if verdict is Verdict.AT_RISK:
                self.doubtful -= 1
                if self.doubtful < 0:
                    later.append(chosen)
                    continue
            elif verdict is not Verdict.HEALTHY:
                continue
            yield chosen
        yield from later

    def _verdict(self, chosen: Set) -> Verdict | None:
        """By the statistics; None where they cannot be had."""
        if len(chosen) > 1:
            if self.looked == MOST_LOOKS or not self.left:
                return None
            self.looked += 1
        return self.bench.verdict(chosen)

    def _proven(self, chosen: Set) -> Cure | None:
        """By the statistics in full and, where there is one, by the short training."""
        seen = self.bench.whole(chosen) if self.left else None
        if seen is None or seen.diagnosis.verdict is Verdict.UNHEALTHY:
            return None
        if not self.may_train:
            healthy = seen.diagnosis.verdict is Verdict.HEALTHY
            return Cure(chosen) if healthy else None
        after = self._trial(chosen)
        if after is None:
            return None
        told = self.bench.trained(seen, after)
        if told.verdict is Verdict.HEALTHY and self._no_worse(after):
            return Cure(chosen, after=after, confidence=told.confidence)
        if told.verdict is Verdict.AT_RISK and not self.half_way and self.eased is None:
            self.eased = Cure(chosen, after=after, verdict=told.verdict, confidence=told.confidence)
        return None

    def _no_worse(self, after: Trial) -> bool:
        """Than the submitted model, where that trains half-way."""
        if not self.half_way:
            return True
        before = self._trained_before()
        if before is not None and no_worse(before, after):
            return True
        self.worsened += 1
        return False

    def _trial(self, chosen: Set) -> Trial | None:
        """Of the model as changed; None when it cannot be trained in the time that is left."""
        allowance = self.bench.allowance
        if not allowance.covers():
            return None
        self.left -= 1
        self.trained += 1
        try:
            return self.bench.session.trial(combined(chosen), seconds=allowance.left())
        except ChangeRefused:
            return None

    def _trained_before(self, rates: Mapping[str, float] | None = None) -> Trial | None:
        """Of the submitted model, at the usual rates or at these; None when no time is left for
        it."""
        allowance = self.bench.allowance
        if self.before is None and allowance.covers():
            try:
                self.before = self.bench.session.trial(rates=rates, seconds=allowance.left())
            except ChangeRefused:
                return None
        return self.before


def _sure(after: Trial | None) -> bool:
    """Whether every optimizer learned at once; without training there is nothing to doubt."""
    runs = after.runs if after else ()
    return all(run.learned for run in runs) and len({run.optimizer for run in runs}) == len(runs)


def _preferred(cure: Cure, found: Cure) -> bool:
    """To one found before, which is no more invasive."""
    if _sure(cure.after) != _sure(found.after):
        return _sure(cure.after)
    return 1.0 - cure.confidence < LESS_DOUBT * (1.0 - found.confidence)


def _sets(offered: Sequence[Recommendation], size: int) -> list[Set]:
    """Of so many changes of different kinds; those that help alone before others, least invasive
    first."""
    sets = (s for s in combinations(offered, size) if len({one.kind for one in s}) == size)
    return sorted(sets, key=lambda chosen: sum(map(fails, chosen)))


def fails(recommendation: Recommendation) -> bool:
    """Whether it was tried alone and did not help."""
    return recommendation.effect is not None and recommendation.effect.verified is False
