"""What was tried in vain, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from service.domain.findings import Diagnosis
from service.domain.recommendations import Effect, Recommendation

NOTHING_FOUND = "no permitted change, and no three together, was found to make this train"
HALF_WAY = (
    "nothing permitted was found to bring the verdict to healthy ({tried}); the prescription is the"
    " smallest set found that brings it from unhealthy to at_risk"
)
RATE_ALONE = "no change of the model is needed: at the learning rate {rate:g} it trains"
OUT_OF_TIME = "budget: budget_seconds ended before every change was measured and a cure was found"
NOT_COMPARED = (
    "the prescription's own training ended well; the model was not trained as submitted, to be "
    "compared with"
)
BEFORE_UNKNOWN = f"budget: budget_seconds ended too early: {NOT_COMPARED}"
NOTHING_BETTER = (
    "nothing is prescribed: this trains, if not with every usual optimizer, and no set of changes "
    "that the statistics favour was shown by a short training to be as good ({tried})"
)

UNTRAINED = (
    "nothing is prescribed without a short training (trial_steps is 0): this trains, if not with "
    "every usual optimizer, and only training shows whether a change makes it worse"
)


def dropped(
    advised: Sequence[Recommendation], kept: Sequence[Recommendation], before: Diagnosis
) -> list[str]:
    """One note for each that was tried and is not offered."""
    titles = {one.title for one in kept}
    return [
        f"tried and dropped: {one.title}; {_why_not(one.effect)}"
        for one in advised
        if one.title not in titles and one.effect is not None and not _off_topic(one, before)
    ]


def out_of_reach(before: Diagnosis) -> Iterator[str]:
    """What no kind of change alters, where nothing else cures."""
    for found in before.findings:
        if found.code == "narrow_layer":
            yield (
                f"narrow_layer: no kind of change widens a layer; {', '.join(found.layers)} with"
                f" {found.evidence['classes']} units or more is another architecture, and yours to"
                " choose"
            )


def _off_topic(one: Recommendation, before: Diagnosis) -> bool:
    """What cannot be done in float16 is no news to a request for another precision."""
    asked = {f.evidence.get("precision") for f in before.findings if f.code in one.resolves}
    return one.kind == "loss_scaling" and asked.isdisjoint({"float16", "pure_float16"})


def _why_not(effect: Effect) -> str:
    if effect.verified is None:
        return "nothing shows that it helps"
    if "verdict" not in effect.after:
        return "the training did not become better"
    if effect.introduced and effect.resolved:
        return f"it brought {', '.join(effect.introduced)}"
    return f"the verdict stayed {effect.after['verdict']}"
