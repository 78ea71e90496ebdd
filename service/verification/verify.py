"""From advice to what is offered and what is prescribed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from service.domain.architecture import Architecture
from service.domain.findings import Diagnosis, Verdict
from service.domain.measurements import Measurements, Trial
from service.domain.recommendations import Effect, Prescription, Recommendation
from service.prescription import Cure, Keep, layers_after, prescribe
from service.recommendation.combination import changes_model
from service.verification import notes
from service.verification.bench import Bench
from service.verification.course import Course
from service.verification.search import Search, fails

Advise = Callable[[Diagnosis, Measurements, Trial | None], Sequence[Recommendation]]
"""What a model with these numbers is advised."""


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
    bench: Bench,
    recommendations: Sequence[Recommendation],
    *,
    architecture: Architecture | None,
    may_train: bool,
    keep: Keep | None = None,
    advise: Advise | None = None,
) -> Verified:
    """Apply each recommendation in the same session, on the same seeds and batches; then look for
    the smallest set that brings the verdict to healthy, and train it. Where the best of them takes
    a model that does not train but half-way, what `advise` says of the model as changed is tried
    with it: a disease may have stood behind another. Raises ProbeFailure."""
    before, course = bench.submitted.diagnosis, Course(bench, may_train=may_train)
    advised = [replace(one, effect=_effect(one, bench, course)) for one in recommendations]
    if before.verdict in {Verdict.HEALTHY, Verdict.INCONCLUSIVE}:
        kept = [one for one in advised if not fails(one)]
        return Verified(_numbered(kept), None, tuple(notes.dropped(advised, kept, before)))
    search = Search(bench, may_train=may_train)
    rate = next((one for one in advised if one.kind == "learning_rate" and _helps(one)), None)
    cure = search.run(_candidates(advised)) if rate is None else None
    if cure is None and search.eased is not None:
        further = _further(search.eased, bench, advised, advise) if advise else []
        cure = search.beyond(search.eased, _candidates(further)) or search.eased
        advised += further
    advised = [_in_full(one, bench) for one in advised]
    kept = list(_proven(advised, cure, bench))
    told = notes.dropped(advised, kept, before)
    numbered = _numbered(kept)
    if cure is None:
        told.append(_why_none(search, bench) if rate is None else _at_rate(rate))
        return Verified(numbered, None, (*told, *notes.out_of_reach(before)))
    if cure is search.eased:
        told += [notes.HALF_WAY.format(tried=search.tried()), *notes.out_of_reach(before)]
    cure = search.compared(cure)
    if may_train and cure.before is None:
        told.append(notes.BEFORE_UNKNOWN)
    titles = {one.title for one in cure.chosen}
    chosen = tuple(one for one in numbered if one.title in titles)
    prescription, missing = prescribe(
        replace(cure, chosen=chosen), bench.session, architecture, keep
    )
    seen = bench.whole(cure.chosen)  # remembered from the search
    if seen is not None:
        prescription = replace(prescription, layers_after=layers_after(seen.measurements))
    return Verified(numbered, prescription, (*told, *missing))


def _effect(one: Recommendation, bench: Bench, course: Course) -> Effect | None:
    return bench.effect((one,)) if changes_model(one) else course.effect(one)


def _further(
    eased: Cure, bench: Bench, advised: Sequence[Recommendation], advise: Advise
) -> list[Recommendation]:
    """What is advised for the first time once these changes are made. What it resolves was behind
    what they resolve."""
    seen = bench.whole(eased.chosen)  # remembered from the search
    if seen is None:
        return []
    known = {one.title for one in advised}
    kinds = {one.kind for one in eased.chosen}
    resolved = tuple(dict.fromkeys(code for one in eased.chosen for code in one.resolves))
    return [
        replace(one, effect=bench.effect((one,)), resolves=resolved)
        for one in advise(bench.trained(seen, eased.after), seen.measurements, eased.after)
        if changes_model(one) and one.kind not in kinds and one.title not in known
    ]


def _in_full(one: Recommendation, bench: Bench) -> Recommendation:
    """With the effect of the whole probe, where the search took it."""
    if one.effect is None or not changes_model(one):
        return one
    return replace(one, effect=bench.effect((one,)))


def _numbered(kept: Sequence[Recommendation]) -> tuple[Recommendation, ...]:
    return tuple(replace(one, id=f"r{index}") for index, one in enumerate(kept, start=1))


def _helps(recommendation: Recommendation) -> bool:
    return recommendation.effect is not None and recommendation.effect.verified is True


def _candidates(advised: Sequence[Recommendation]) -> list[Recommendation]:
    """What may be part of a cure: what could be applied. What does not help alone may help in
    company, as where an initialization dies behind an activation."""
    return [one for one in advised if changes_model(one) and one.effect is not None]


def _proven(
    advised: Sequence[Recommendation], cure: Cure | None, bench: Bench
) -> Iterator[Recommendation]:
    """What stays: what helps, what no probe can show, and what the cure needs, which its training
    has shown. An edit that nothing shows to help goes."""
    needed = cure.chosen if cure else ()
    titles = [one.title for one in needed]
    for one in advised:
        if one.title in titles and one.effect is not None:
            yield _in_company(one, needed, bench)
        elif not fails(one) and not _unseen(one):
            yield one


def _unseen(one: Recommendation) -> bool:
    return changes_model(one) and one.effect is not None and one.effect.verified is None


def _in_company(
    one: Recommendation, needed: tuple[Recommendation, ...], bench: Bench
) -> Recommendation:
    """A part of the cure. Of one that does nothing alone the effect is that of all together."""
    assert one.effect is not None
    if not fails(one):
        return replace(one, effect=replace(one.effect, verified=True))
    together = bench.effect(needed) or one.effect
    others = " and ".join(f"“{other.title}”" for other in needed if other.title != one.title)
    why = f"{one.why} Alone it is not enough; the effect is that of it and {others} together."
    return replace(one, why=why, effect=replace(together, verified=True))


def _why_none(search: Search, bench: Bench) -> str:
    if bench.allowance.exceeded or not bench.allowance.covers():
        return notes.OUT_OF_TIME
    if search.half_way and not search.may_train:
        return notes.UNTRAINED
    if search.worsened:
        return notes.NOTHING_BETTER.format(tried=search.tried())
    return f"{notes.NOTHING_FOUND} ({search.tried()})"


def _at_rate(rate: Recommendation) -> str:
    return notes.RATE_ALONE.format(rate=rate.change["lr"])
