"""docs/repair.md, from the records of `benchmarks.repair`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import mean, median
from typing import Any

Record = dict[str, Any]
"""One case, one way: see `benchmarks.repair.recorded`."""
OURS, INITIALIZERS, FIXED = "graddx", "graddx, initializers alone", "graddx, activations fixed"
HE, RECIPE, RANDOM = "He alone", "He, ReLU, BatchNorm", "random search"
WAYS = (OURS, INITIALIZERS, FIXED, HE, RECIPE, RANDOM)
AT_HAND = {
    "bottleneck": ("1-0", "1-6", "2-2", "2-5", "2-13", "2-15", "2-22", "2-31", "2-33", "2-36"),
    "convolutional": ("1-3", "1-9", "2-36", "2-41", "2-48", "2-80", "4-2"),
    "dropout": ("2-12", "2-24", "3-8"),
    "headed": ("3-13",),
    "pyramid": ("2-24",),
    "recurrent": ("1-8", "2-47", "2-56"),
    "transformer": ("3-7",),
}
"""Sick cases that were looked at when search and remedies were last changed: no test of them."""
TEXT = """# Do prescriptions make networks train?

Written by `python -m benchmarks.repair`; change it there.

{sick} sick networks, {dev} of the development cases and {own} of our own families ({drawn} were
drawn, of each family about as many, and taken in random order), are repaired by our prescription
and then trained as the labels were (`tests/cases/oracle.py`). *Not sick* is a network that SGD or
Adam trains at least half-way, *healthy* one that both bring to 90 % training accuracy in 400 steps;
our detectors have no say in that. An own case whose labelling took longer than 25 s was passed
over. {at_hand} of them were at hand when search and remedies were last changed and are no test of
these: the second row is of the others.
{rivals}
`changes` are recommendations in a prescription, `cost` is the processor time of finding the
repair, diagnosis and short trainings included, as a multiple of one bare forward and backward pass
of the network as it came (batch 64): median over the networks.

{table}

{shorter}

## Healthy networks

{healthy}

## By family

Not sick and healthy after our prescription, of all.

{families}

## Not healthy after our prescription

{left}
"""

RIVALS = """{count} of those that were labelled within 25 s, evenly spread, are repaired in other
ways, too; the costlier the way, the fewer (as many as a row says). *Random search* draws
initialization, activation and normalization as often as we train sets of one size, at most, and
keeps the one whose short training learns most."""
NO_RIVALS = "Other ways of repair were not run this time."


def table(records: Sequence[Record]) -> list[str]:
    """One row per way."""
    rows = [
        "| repair | offered | not sick | healthy | changes | cost |",
        "|---|---|---|---|---|---|",
    ]
    sick = [one for one in records if one["case"] == "sick"]
    bare = {one["id"]: one["bare_seconds"] for one in sick if one["way"] == OURS}
    ours = [one for one in sick if one["way"] == OURS]
    rivalled = _rivalled(records)
    on_those = [one for one in ours if one["id"] in rivalled]
    unseen = [one for one in ours if not _at_hand(one)]
    asked = [(OURS, ours), (f"{OURS}, not at hand", unseen)]
    asked.append((f"{OURS}, on the {len(rivalled)}", on_those))
    asked += [(way, [one for one in sick if one["way"] == way]) for way in WAYS if way != OURS]
    for title, found in asked:
        if not found:
            continue
        labels = Counter(one["label"] for one in found)
        changes = [one["changes"] for one in found if one["changes"]]
        free = title in {HE, RECIPE}  # a rule costs nothing to look up
        cost = 0.0 if free else median(one["seconds"] / bare[one["id"]] for one in found)
        rows.append(
            f"| {title} | {len(found) - labels[None]}/{len(found)} "
            f"| {(labels['healthy'] + labels['mixed']) / len(found):.3f} "
            f"| {labels['healthy'] / len(found):.3f} "
            f"| {f'{mean(changes):.2f}' if changes else '–'} "
            f"| {f'{cost:.0f}' if cost >= 1 else '–'} |"
        )
    return rows


def _at_hand(record: Record) -> bool:
    family, _, number = record["id"].partition("-")
    return number in AT_HAND.get(family, ())


def _rivalled(records: Sequence[Record]) -> set[str]:
    """Cases that were repaired in other ways, too."""
    return {one["id"] for one in records if one["case"] == "sick" and one["way"] != OURS}


def page(records: Sequence[Record], drawn: int) -> str:
    """The whole page, Markdown; `drawn`: sick cases that were asked for."""
    rivalled = len(_rivalled(records))
    ours = [one for one in records if one["way"] == OURS]
    sick = [one for one in ours if one["case"] == "sick"]
    own = sum(one["family"] not in {"mlp", "cnn", "rnn"} for one in sick)
    return TEXT.format(
        sick=len(sick),
        dev=len(sick) - own,
        own=own,
        drawn=drawn,
        at_hand=sum(map(_at_hand, sick)),
        rivals=RIVALS.format(count=rivalled) if rivalled else NO_RIVALS,
        table="\n".join(table(records)),
        shorter=_shorter(sick),
        healthy=_healthy([one for one in ours if one["case"] == "healthy"]),
        families="\n".join(_families(sick)),
        left="\n".join(_left(sick)) or "None.",
    )


def _shorter(sick: Sequence[Record]) -> str:
    """How often no smaller set cures."""
    longer = [one for one in sick if one["shorter"]["found"]]
    tried = sum(one["shorter"]["tried"] for one in sick)
    unsure = sum(not one["shorter"]["all"] for one in sick)
    told = (
        f"In {len(sick) - len(longer)} of {len(sick)} ({1 - len(longer) / len(sick):.1%}) our "
        f"answer is as short as that of an exhaustive search: none of the {tried} smaller sets of "
        "what was advised is healthy by the oracle (up to two changes, where nothing was prescribed"
        f", too; in {unsure} cases some sets were left out)."
    )
    names = ", ".join(f"`{one['id']}` ({' + '.join(one['shorter']['found'])})" for one in longer)
    return f"{told} Shorter would do: {names}." if longer else told


def _healthy(healthy: Sequence[Record]) -> str:
    """What became of those that needed nothing."""
    given = [one for one in healthy if one["label"]]
    worse = [one["id"] for one in given if one["label"] != "healthy"]
    verdicts = Counter(one["verdict"] for one in healthy)
    told = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    return (
        f"{len(healthy)} networks labelled healthy ({told}): {len(given)} were given a "
        f"prescription, and after it {len(worse)} are not healthy any more"
        f"{': ' + ', '.join(worse) if worse else ''}."
    )


def _families(sick: Sequence[Record]) -> Iterator[str]:
    yield "| family | sick | not sick | healthy |"
    yield "|---|---|---|---|"
    for family in dict.fromkeys(one["family"] for one in sick):
        labels = [one["label"] for one in sick if one["family"] == family]
        well = labels.count("healthy")
        yield f"| {family} | {len(labels)} | {well + labels.count('mixed')} | {well} |"


def _left(sick: Sequence[Record]) -> Iterator[str]:
    words = {"mixed": "half-way", "sick": "sick", None: "none offered"}
    for one in sick:
        if one["label"] != "healthy":
            verdict = "" if one["verdict"] == "unhealthy" else f" (verdict {one['verdict']})"
            yield f"* `{one['id']}` {one['what']}: {words[one['label']]}{verdict}"
