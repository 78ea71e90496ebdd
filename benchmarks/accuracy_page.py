"""docs/accuracy.md, from what every judge says of every labelled network."""

from __future__ import annotations

import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import mean

import torch

from benchmarks.families import FAMILIES
from benchmarks.rivals import RULES
from benchmarks.score import EXPECTED, oracle

DEFAULT, STATIC, RIVAL = "graddx", "graddx, trial_steps 0", "plain training, 200 steps"
SEEDS = 5
BINS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Edges of the reliability table's rows."""
VERDICTS = ("healthy", "at_risk", "unhealthy", "inconclusive", "failed")
UNSEEN_FROM = 4
"""Seed from which cases of our own families had no part in what is judged here."""
PLAIN_UNSEEN_FROM = 23
"""The same of networks as people draw them."""
ENOUGH = 20
"""Sick and healthy cases that a family should have."""
REPEATED = "one whole training as the labels were made"
PLAIN = (
    "`mlp`, `cnn` and `rnn`, drawn by `tests/cases/oracle.py`. Those of seed 11 were at hand while "
    f"the thresholds were chosen, those of seed {PLAIN_UNSEEN_FROM} were not."
)
EDGE = (
    "The other families (`benchmarks/families.py`) are drawn on purpose where networks begin to "
    "fail. Their first three seeds were at hand when detectors were written later, and the weights "
    "of doubts and trial were fitted to them; `docs/calibration.md` says what fits make of groups "
    "that they have not seen. Here the truth itself is blurred: the last row is one of the "
    "trainings behind a label (real digits, seven rates, 400 steps), asked for the majority of "
    "three that it is part of."
)
UNSEEN = (
    f"Networks at the edge from seed {UNSEEN_FROM} on and those that people draw of seed "
    f"{PLAIN_UNSEEN_FROM}: no threshold and no weight was set with them at hand. One of them, "
    "`headed-5-5`, was a false alarm at first (a layer that starts at zero, called dead), and a "
    "detector was mended for it."
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one judge says of one case."""

    verdict: str
    seconds: float
    """Processor time."""
    confidence: float = 0.0
    """Probability that the verdict is right, 0 … 1; 0 where the judge gives none."""
    why: str = ""
    """Summary, what decided and the codes found."""


@dataclass(frozen=True, slots=True)
class Examined:
    """One case, by every judge."""

    id: str
    family: str
    what: str
    label: str
    sgd: tuple[float, ...]
    """Best accuracy per oracle seed."""
    adam: tuple[float, ...]
    answers: Mapping[str, Answer]
    """By judge."""
    flaps: tuple[str, ...] = field(default=())
    """Verdicts of all probe seeds, when they were asked."""

    @property
    def plain(self) -> bool:
        """Drawn as people draw networks, not at the edge of training."""
        return self.family not in FAMILIES


@dataclass(frozen=True, slots=True)
class Ratios:
    """Sick against healthy, `unhealthy` being the positive; mixed cases are not counted."""

    precision: float
    recall: float
    f1: float
    alarms: str
    """False alarms of healthy cases."""


def ratios(cases: Iterable[Examined], judge: str) -> Ratios:
    """Of one judge on the cases that it answered; nothing of nothing is 0."""
    counts = Counter((x.label, x.answers[judge].verdict == "unhealthy") for x in cases)
    caught, missed = counts["sick", True], counts["sick", False]
    false, quiet = counts["healthy", True], counts["healthy", False]
    precision = caught / (caught + false) if caught + false else 0.0
    recall = caught / (caught + missed) if caught + missed else 0.0
    f1 = 2 * caught / (2 * caught + false + missed) if caught else 0.0
    return Ratios(precision, recall, f1, f"{false}/{false + quiet}")


def right(case: Examined, judge: str = DEFAULT) -> bool:
    """The verdict is the one that the label asks for."""
    return case.answers[judge].verdict == EXPECTED[case.label]


def unseen(case: str) -> bool:
    """Whether this id is of a network that no threshold and no weight has seen."""
    family, _, rest = case.partition("-")
    if family in FAMILIES:
        return int(rest.partition("-")[0]) >= UNSEEN_FROM
    return int(family.removeprefix("s")) >= PLAIN_UNSEEN_FROM


def judges_table(cases: Sequence[Examined]) -> list[str]:
    """Every judge on what it answered, graddx again on the plain training's cases, and what one
    training alone by those who made the labels is worth."""
    rows = [
        "| judge | cases | precision | recall | F1 | false alarms | mixed → at_risk | s/case |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rivalled = [x for x in cases if RIVAL in x.answers]
    asked = [(name, name, cases) for name in (DEFAULT, STATIC)]
    if rivalled:
        asked.append((RIVAL, RIVAL, rivalled))
        asked += [(f"{name}, on those", name, rivalled) for name in (DEFAULT, STATIC)]
    asked += [(name, name, cases) for name in RULES]
    for title, name, chosen in asked:
        r = ratios(chosen, name)
        mixed = [x for x in chosen if x.label == "mixed"]
        told = "–" if name in RULES else f"{sum(right(x, name) for x in mixed)}/{len(mixed)}"
        seconds = mean(x.answers[name].seconds for x in chosen)
        rows.append(
            f"| {title} | {len(chosen)} | {r.precision:.3f} | {r.recall:.3f} | {r.f1:.3f} "
            f"| {r.alarms} | {told} | {seconds:.2f} |"
        )
    return [*rows, repeated(cases)]


def repeated(cases: Sequence[Examined]) -> str:
    """One of the three trainings behind a label as a judge of it. A network that was clear at once
    was trained once and agrees with itself: the truth repeats itself less well than this says."""
    told: dict[tuple[str, str], float] = defaultdict(float)
    label = oracle().label_of
    for case in cases:
        runs = [label([sgd], [adam]) for sgd, adam in zip(case.sgd, case.adam, strict=True)]
        for said, count in Counter(runs).items():
            told[case.label, said] += count / len(runs)
    sick, false = told["sick", "sick"], told["healthy", "sick"]
    missed = sum(told["sick", said] for said in ("mixed", "healthy"))
    precision = sick / (sick + false) if sick else 0.0
    recall = sick / (sick + missed) if sick else 0.0
    f1 = 2 * sick / (2 * sick + false + missed) if sick else 0.0
    healthy = sum(x.label == "healthy" for x in cases)
    mixed = sum(x.label == "mixed" for x in cases)
    return (
        f"| {REPEATED} | {len(cases)} | {precision:.3f} | {recall:.3f} | {f1:.3f} "
        f"| {false:.1f}/{healthy} | {told['mixed', 'mixed']:.0f}/{mixed} | – |"
    )


def _sections(cases: Sequence[Examined]) -> list[str]:
    """The judges on each kind of network."""
    parts: list[str] = []
    for title, about, chosen in (
        ("Networks as people draw them", PLAIN, [x for x in cases if x.plain]),
        ("At the edge of training", EDGE, [x for x in cases if not x.plain]),
        ("Drawn after everything was set", UNSEEN, [x for x in cases if unseen(x.id)]),
    ):
        if chosen:
            parts += [f"## {title}", "", about, "", *judges_table(chosen), ""]
    return parts


def confusion(cases: Sequence[Examined], judge: str) -> list[str]:
    """Label × verdict."""
    counts = Counter((x.label, x.answers[judge].verdict) for x in cases)
    shown = [v for v in VERDICTS if any(counts[label, v] for label in EXPECTED)]
    rows = [f"| {judge} | " + " | ".join(shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for label in EXPECTED:
        rows.append(f"| {label} | " + " | ".join(str(counts[label, v]) for v in shown) + " |")
    return rows


def families_table(cases: Sequence[Examined]) -> list[str]:
    """Per family: how many there are, and which go wrong."""
    rows = [
        "| family | sick | caught | static | healthy | alarms | static | mixed | at_risk |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[str, list[Examined]] = defaultdict(list)
    for case in cases:
        groups[case.family].append(case)
    for family, group in groups.items():
        of = {label: [x for x in group if x.label == label] for label in EXPECTED}

        def unhealthy(label: str, judge: str, of: Mapping[str, list[Examined]] = of) -> int:
            return sum(x.answers[judge].verdict == "unhealthy" for x in of[label])

        rows.append(
            f"| {family} | {len(of['sick'])} | {unhealthy('sick', DEFAULT)} "
            f"| {unhealthy('sick', STATIC)} | {len(of['healthy'])} "
            f"| {unhealthy('healthy', DEFAULT)} | {unhealthy('healthy', STATIC)} "
            f"| {len(of['mixed'])} | {sum(map(right, of['mixed']))} |"
        )
    few = [
        family
        for family, group in groups.items()
        if min(sum(x.label == label for x in group) for label in ("sick", "healthy")) < ENOUGH
    ]
    if few:
        rows += ["", f"Fewer than {ENOUGH} sick or {ENOUGH} healthy cases: {', '.join(few)}."]
    return rows


def brier(cases: Sequence[Examined], judge: str) -> float:
    """Mean squared distance between the confidence and whether the verdict was right."""
    return mean((x.answers[judge].confidence - right(x, judge)) ** 2 for x in cases)


def reliability(cases: Sequence[Examined], judge: str) -> tuple[list[str], float]:
    """The table of confidence against share of right verdicts, and the expected calibration error:
    the mean over the cases of their row's |confidence - share right| (Guo et al. 2017)."""
    rows = ["| confidence | cases | mean | right |", "|---|---|---|---|"]
    error = 0.0
    for low, high in pairwise(BINS):
        inside = [
            x
            for x in cases
            if low <= x.answers[judge].confidence < high
            or (high == BINS[-1] and x.answers[judge].confidence == high)
        ]
        if not inside:
            continue
        told = mean(x.answers[judge].confidence for x in inside)
        true = mean(right(x, judge) for x in inside)
        error += len(inside) / len(cases) * abs(told - true)
        rows.append(f"| {low:.2f} … {high:.2f} | {len(inside)} | {told:.3f} | {true:.3f} |")
    return rows, error


def _calibration(cases: Sequence[Examined], judge: str, how: str) -> list[str]:
    """Scores of the confidence for each kind of network, and the table of reliability."""
    rows = [
        f"| {how} | cases | Brier | … of sick and healthy | calibration error |",
        "|---|---|---|---|---|",
    ]
    for title, chosen in (
        ("as people draw them", [x for x in cases if x.plain]),
        ("at the edge", [x for x in cases if not x.plain]),
        ("all", cases),
    ):
        clear = [x for x in chosen if x.label != "mixed"]
        if clear:
            rows.append(
                f"| {title} | {len(chosen)} | {brier(chosen, judge):.3f} "
                f"| {brier(clear, judge):.3f} | {reliability(chosen, judge)[1]:.3f} |"
            )
    return [*rows, "", *reliability(cases, judge)[0], ""]


def flapping(cases: Sequence[Examined]) -> str:
    """How often another probe seed, that is another initialization, changes the verdict."""
    asked = [x for x in cases if x.flaps]
    if not asked:
        return "Not asked in this run."
    opposed = [x for x in asked if {"healthy", "unhealthy"} <= set(x.flaps)]
    moved = [x for x in asked if len(set(x.flaps)) > 1]
    named = f" ({', '.join(x.id for x in opposed)})" if opposed else ""
    return (
        f"{len(asked)} cases × {SEEDS} probe seeds: healthy ↔ unhealthy in {len(opposed)} "
        f"({len(opposed) / len(asked):.1%}){named}; any change of verdict in {len(moved)} "
        f"({len(moved) / len(asked):.1%}): {', '.join(x.id for x in moved) or 'none'}."
    )


def wrong(cases: Sequence[Examined], judge: str) -> list[str]:
    """Every case that this judge gets wrong, and what it says of it."""
    lines = []
    for x in sorted(cases, key=lambda x: (x.label != "sick", x.label != "healthy", x.family)):
        if right(x, judge):
            continue
        said = x.answers[judge]
        lines.append(
            f"* `{x.id}` **{x.label} → {said.verdict}** ({said.confidence:.2f}): {x.what}. "
            f"Trained: SGD {_accuracies(x.sgd)}, Adam {_accuracies(x.adam)}. *{said.why}*"
        )
    return lines or ["None."]


def _accuracies(best: Sequence[float]) -> str:
    return " ".join(f"{accuracy:.2f}" for accuracy in best)


def page(cases: Sequence[Examined], sources: Sequence[Path], command: str) -> str:
    """docs/accuracy.md."""
    labels = Counter(x.label for x in cases)
    count = ", ".join(f"{labels[label]} {label}" for label in EXPECTED)
    mistakes = [x for x in cases if not right(x) and x.label != "mixed"]
    static = [x for x in cases if not right(x, STATIC) and x.label != "mixed"]
    mixed = [x for x in cases if not right(x) and x.label == "mixed"]
    machine = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    parts = [
        "# How far the verdict can be trusted",
        "",
        f"Written by `{command}`. Machine: {machine}, torch {torch.__version__}, one thread; times "
        "are processor seconds.",
        "",
        f"{len(cases)} networks ({count}) from {', '.join(f'`{s}`' for s in sources)}, each really "
        "trained on the 8×8 digits (`tests/cases/oracle.py`): *healthy* = SGD with momentum (best "
        "of five rates) and Adam (best of two) reach 90 % training accuracy in 400 steps, *sick* = "
        "both stay under 50 %, *mixed* = between. The labels of unclear networks are the majority "
        "of three seeds.",
        "",
        "`unhealthy` is the positive; precision, recall, F1 and false alarms are those of sick "
        "against healthy cases. Seconds are those of a diagnosis: what cures it is not asked for "
        "here (`docs/repair.md`). The plain training is what anyone can do: 200 steps of ten "
        "Gaussian classes at three rates of SGD and one of Adam, and look. The rule sets are "
        "restated in `benchmarks/rivals.py` and see one batch at initialization.",
        "",
        *_sections(cases),
        "## What comes out",
        "",
        *confusion(cases, DEFAULT),
        "",
        *confusion(cases, STATIC),
        "",
        "## By family",
        "",
        "Caught and alarms: verdict `unhealthy`, with the short training and from the static "
        "statistics alone.",
        "",
        *families_table(cases),
        "",
        "## Confidence",
        "",
        "The confidence is the probability that the verdict is the one the label asks for (for "
        "mixed networks: `at_risk`).",
        "",
        *_calibration(cases, DEFAULT, "By default"),
        *_calibration(cases, STATIC, "With `trial_steps: 0`"),
        "## Does the verdict flap?",
        "",
        flapping(cases),
        "",
        "## Every case still wrong",
        "",
        "By default, sick and healthy:",
        "",
        *wrong(mistakes, DEFAULT),
        "",
        "With `trial_steps: 0`, sick and healthy:",
        "",
        *wrong(static, STATIC),
        "",
        "Mixed networks that do not come out `at_risk` by default:",
        "",
        *wrong(mixed, DEFAULT),
        "",
    ]
    return "\n".join(parts)
