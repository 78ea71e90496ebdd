"""Fit service/diagnosis/calibration.py to labelled networks, and say how far to trust it.

    python -m benchmarks.calibrate [--cases FILE …] [--cache DIR] [--write]

Two fits, both by maximum likelihood with a small L2 penalty. The doubt: a logistic function, with
weights ≥ 0, of a network's oddities (`service.diagnosis.doubt`), on the networks that no detector
objects to. The evidence of the short trainings: a multinomial logistic function of their signs
(`service.diagnosis.signs`), added to the logarithm of the static belief.

Then both are fitted again and again with one group of networks left out (an activation, an
initialization, a depth band, an architecture) and asked about that group alone. `--write` writes
the module, from all cases but those that `benchmarks.accuracy` keeps unseen. What was measured is
kept in the cache, one file per case.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from subprocess import run
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks.accuracy_page import unseen as held_out
from benchmarks.families import CRITICAL
from benchmarks.score import BUDGET_SECONDS, CASES, EXPECTED, InProcessProber, oracle
from service.diagnosis.calibration import Calibration, Triple, Weighing
from service.diagnosis.detector import Case, Reading
from service.diagnosis.detectors import ALL_DETECTORS
from service.diagnosis.diagnose import diagnose, wants_settling
from service.diagnosis.doubt import doubt, oddities
from service.diagnosis.fitted import FITTED
from service.diagnosis.signs import signs
from service.diagnosis.thresholds import SURE
from service.diagnosis.verdict import Belief, settled_belief, static_belief, tried, unseen
from service.domain.findings import Verdict
from service.domain.measurements import Measurements, Trial
from service.domain.model_source import model_source
from service.domain.probe_plan import ProbePlan
from service.domain.request import ModelRequest
from service.theory.prediction import with_predictions
from service.verification.bench import SETTLING_STEPS

OWN_CASES = Path("tests/cases/own_cases.jsonl")
PAGE = Path("docs/calibration.md")
MODULE = Path("service/diagnosis/fitted.py")
LABELS = ("sick", "mixed", "healthy")
"""In the order of Belief: unhealthy, at_risk, healthy."""
PENALTY = 0.003
"""Of L2, on slopes of standardised signs: enough to keep them finite."""
DOUBT_PENALTY = 0.005
"""The same of oddities, which few networks have."""
PLAIN = 0.7
"""Weight of the networks as people draw them, together; the rest is that of those at the edge."""
LEAST = {"unknown_steps": 2.0, "long_sequence": 0.6}
"""Slopes that no labelled network without findings could teach, set so that the network is tried:
recurrent layers whose steps cannot be told apart, or are 32 and more."""
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Seen:
    """One labelled network, measured and tried."""

    case: Mapping[str, Any]
    measured: Measurements
    settled: Measurements | None
    trial: Trial

    @property
    def label(self) -> int:
        """Place in LABELS."""
        return LABELS.index(self.case["label"])

    @property
    def plain(self) -> bool:
        """Drawn as people draw networks, not at the edge of training."""
        return "family" not in self.case


def observe(case: Mapping[str, Any]) -> Seen:
    """Measure and try one case, always."""
    torch.set_num_threads(1)
    plan = plan_of()
    model = ModelRequest("spec", spec=case["spec"])
    with InProcessProber().open(model_source(model, "spec"), plan) as session:
        measured = with_predictions(session.measure())
        wanted = wants_settling(diagnose(measured, plan=plan))
        settled = session.measure(after_steps=SETTLING_STEPS) if wanted else None
        return Seen(case, measured, settled, session.trial())


def plan_of() -> ProbePlan:
    """The default probe, in all the time it needs."""
    return ProbePlan(budget_seconds=BUDGET_SECONDS, loss="cross_entropy")


def kept(cache: Path, case: Mapping[str, Any]) -> Seen:
    """From the cache, or observed now. The cache is a file of our own: pickle will do."""
    path = cache / f"{case['id']}.pickle"
    if not path.exists():
        path.write_bytes(pickle.dumps(observe(case)))
    seen: Seen = pickle.loads(path.read_bytes())
    return seen


@dataclass(frozen=True, slots=True)
class Row:
    """What the fits see of one case."""

    seen: Seen
    readings: tuple[Reading, ...]
    oddities: Mapping[str, float]
    signs: Mapping[str, float]

    @property
    def quiet(self) -> bool:
        """No detector objects."""
        return max(reading.warning for reading in self.readings) < 0.5

    def raw(self, calibration: Calibration) -> Belief:
        """The static belief, not calibrated."""
        doubted = doubt(self.seen.measured, self.seen.settled, calibration)
        return static_belief(self.readings, None, doubted)


def row(seen: Seen) -> Row:
    """Read one case."""
    case = Case(seen.measured, plan_of(), seen.settled)
    readings = tuple(detector.read(case) for detector in ALL_DETECTORS)
    return Row(seen, readings, oddities(seen.measured, seen.settled), signs(seen.trial))


def fitted(rows: Sequence[Row]) -> Calibration:
    """Both fits."""
    weight = _weights(rows)
    quiet = [r.quiet for r in rows]
    names = list(FITTED.oddities)
    x = np.array([[r.oddities[name] for name in names] for r in rows])
    y = np.array([r.seen.label != LABELS.index("healthy") for r in rows], dtype=float)
    least = [LEAST.get(name, 0.0) for name in names]
    bias, slopes = _doubt(x[quiet], y[quiet], weight[quiet], least)
    doubts = Calibration(
        doubt=bias,
        oddities=dict(zip(names, slopes, strict=True)),
        static=FITTED.static,
        trial=FITTED.trial,
    )
    logs = np.log([r.raw(doubts).shares for r in rows])
    labels = np.array([r.seen.label for r in rows])
    shown = list(rows[0].signs)
    shows = [unseen(r.readings) < 0.5 for r in rows]
    s = np.array([[r.signs[name] for name in shown] for r in rows])
    return Calibration(
        doubt=doubts.doubt,
        oddities=doubts.oddities,
        static=_weighing(logs, s[:, :0], [], labels, weight),
        trial=_weighing(logs[shows], s[shows], shown, labels[shows], weight[shows]),
    )


def _weights(rows: Sequence[Row]) -> Array:
    """Networks as people draw them weigh as much, together, as those drawn at the edge."""
    plain = np.array([r.seen.plain for r in rows])
    share = float(plain.mean())
    if share in {0.0, 1.0}:
        return np.ones(len(rows))
    weights: Array = np.where(plain, PLAIN / share, (1.0 - PLAIN) / (1.0 - share))
    return weights


def _doubt(x: Array, y: Array, weight: Array, least: list[float]) -> tuple[float, list[float]]:
    """Logistic regression with slopes of `least` or more."""
    scale = x.std(0) + 1e-3

    def loss(p: Array) -> float:
        z = p[0] + x @ p[1:]
        terms = weight * (np.logaddexp(0.0, z) - y * z)
        return float(terms.mean() + DOUBT_PENALTY * np.square(p[1:] * scale).sum())

    bounds = [(None, None), *((low, None) for low in least)]
    found = minimize(loss, np.array([0.0, *least]), bounds=bounds, method="L-BFGS-B").x
    return round(float(found[0]), 3), [round(float(slope), 3) for slope in found[1:]]


def _weighing(logs: Array, s: Array, names: list[str], y: Array, weight: Array) -> Weighing:
    """Multinomial logistic regression; the belief's own logarithms share one slope."""
    n, k = len(y), s.shape[1]
    scale, center = s.std(0) + 1e-3, s.mean(0)
    x = (s - center) / scale

    def loss(p: Array) -> float:
        scores = p[0] * logs + p[1:4] + x @ p[4:].reshape(k, 3)
        top = scores.max(1, keepdims=True)
        norm = (top + np.log(np.exp(scores - top).sum(1, keepdims=True)))[:, 0]
        terms = weight * (norm - scores[np.arange(n), y])
        return float(terms.mean() + PENALTY / 2 * np.square(p[4:]).sum())

    found = minimize(loss, np.concatenate([[1.0], np.zeros(3 + 3 * k)]), method="L-BFGS-B").x
    slopes = found[4:].reshape(k, 3) / scale[:, None]
    bias = found[1:4] - center @ slopes
    return Weighing(
        trust=round(float(found[0]), 3),
        bias=_triple(bias - bias.mean()),
        weights={name: _triple(slopes[place]) for place, name in enumerate(names)},
    )


def _triple(values: Array) -> Triple:
    low, middle, high = (round(float(value), 3) for value in values)
    return low, middle, high


# What is left out when it is asked whether the fit holds elsewhere.


def architecture(case: Mapping[str, Any]) -> str:
    """Its family, or what the first word of its description says."""
    return str(case.get("family") or str(case["what"]).split()[0].lower())


def activation(case: Mapping[str, Any]) -> str:
    """The type of layer without weights that comes most often; "none" without any."""
    kinds = [layer["type"] for layer in case["spec"]["layers"] if layer["type"] in ACTIVATIONS]
    return max(kinds, key=kinds.count) if kinds else "none"


def initializer(case: Mapping[str, Any]) -> str:
    """The first weight's initializer, or "default"."""
    for layer in case["spec"]["layers"]:
        for key, call in layer.get("init", {}).items():
            if "weight" in key:
                return str(call["name"])
    return "default"


def depth(case: Mapping[str, Any]) -> str:
    """A band of the number of layers with weights."""
    count = sum("args" in layer for layer in case["spec"]["layers"])
    low = next(low for low in reversed(DEPTHS) if count >= low)
    return f"from {low}"


ACTIVATIONS = frozenset(CRITICAL)
DEPTHS = (0, 4, 8, 16, 32, 64)
GROUPS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "activation": activation,
    "initializer": initializer,
    "depth": depth,
    "architecture": architecture,
}


@dataclass(frozen=True, slots=True)
class Judged:
    """One case, by a calibration that has not seen its group."""

    label: str
    verdict: str
    confidence: float
    asked: bool
    """A short training was asked for."""
    plain: bool

    @property
    def right(self) -> bool:
        """The verdict is the one that the label asks for."""
        return EXPECTED[self.label] == self.verdict


def judged(one: Row, calibration: Calibration, *, may_train: bool) -> Judged:
    """As the service would."""
    raw = one.raw(calibration)
    belief = settled_belief(raw, calibration)
    unsure = belief.verdict is Verdict.AT_RISK or belief.confidence < SURE
    if may_train and unsure:
        belief = tried(raw, one.signs, calibration, unseen=unseen(one.readings))
    case = one.seen.case
    return Judged(
        case["label"],
        belief.verdict.value,
        belief.confidence,
        may_train and unsure,
        one.seen.plain,
    )


def left_out(rows: Sequence[Row], group: Callable[[Mapping[str, Any]], str]) -> list[list[Judged]]:
    """With and without the short training: each group judged by a fit to all others."""
    both: list[list[Judged]] = [[], []]
    for name in sorted({group(r.seen.case) for r in rows}):
        inside = [r for r in rows if group(r.seen.case) == name]
        calibration = fitted([r for r in rows if group(r.seen.case) != name])
        for may_train, found in zip((True, False), both, strict=True):
            found += [judged(r, calibration, may_train=may_train) for r in inside]
    return both


def line(title: str, cases: Sequence[Judged]) -> str:
    """One row of the table."""
    sick = [c for c in cases if c.label == "sick"]
    healthy = [c for c in cases if c.label == "healthy"]
    mixed = [c for c in cases if c.label == "mixed"]
    caught = sum(c.verdict == "unhealthy" for c in sick)
    alarms = sum(c.verdict == "unhealthy" for c in healthy)
    precision = caught / (caught + alarms) if caught + alarms else 0.0
    clear = sick + healthy
    return (
        f"| {title} | {precision:.3f} | {caught}/{len(sick)} | {alarms}/{len(healthy)} "
        f"| {sum(c.right for c in mixed)}/{len(mixed)} | {brier(cases):.3f} | {brier(clear):.3f} "
        f"| {calibration_error(cases):.3f} | {sum(c.asked for c in cases) / len(cases):.0%} |"
    )


def brier(cases: Sequence[Judged]) -> float:
    """Mean squared distance between the confidence and whether the verdict was right."""
    return sum((c.confidence - c.right) ** 2 for c in cases) / len(cases)


def calibration_error(cases: Sequence[Judged]) -> float:
    """Over bins of a twentieth: their |mean confidence - share right|, weighted (Guo et al.
    2017)."""
    bins: dict[int, list[Judged]] = {}
    for case in cases:
        bins.setdefault(min(int(20 * case.confidence), 19), []).append(case)
    return sum(
        abs(sum(c.confidence for c in inside) - sum(c.right for c in inside))
        for inside in bins.values()
    ) / len(cases)


HEAD = [
    "| judged by fits without its | precision | sick caught | false alarms | mixed → at_risk "
    "| Brier | … of sick and healthy | calibration error | tried |",
    "|---|---|---|---|---|---|---|---|---|",
]
TEXT = """\
# How the confidence is calibrated

Written by `python -m benchmarks.calibrate --write`, which also writes
`service/diagnosis/fitted.py`: the weights with which a network's oddities make the static
statistics doubted, and with which the signs of the short training change the static belief.

Below, every network is judged by a fit that has not seen its group: its activation, its
initializer, its band of depth, its architecture. The thresholds of the detectors
(`service/diagnosis/thresholds.py`) are not fitted again. "Tried" is the share of networks for which
the statistics ask for a short training. The Brier score is that of the confidence in the verdict,
mixed networks included. The labels themselves are not certain: one training alone gives {agree:.0%}
of the networks drawn at the edge, and {plain_agree:.0%} of the others, another label than the
majority of three.
"""


def page(rows: Sequence[Row]) -> str:
    """docs/calibration.md."""
    judgements = {title: left_out(rows, group) for title, group in GROUPS.items()}
    everything = fitted(rows)
    judgements["nothing (the fit that is used)"] = [
        [judged(r, everything, may_train=may_train) for r in rows] for may_train in (True, False)
    ]
    agree, plain_agree = (
        _disagreement([r.seen.case for r in rows if r.seen.plain is plain])
        for plain in (False, True)
    )
    parts = [TEXT.format(agree=agree, plain_agree=plain_agree)]
    for plain, name in ((True, "as people draw them"), (False, "drawn at the edge of training")):
        count = sum(r.seen.plain is plain for r in rows)
        for place, how in enumerate(("by default", "with `trial_steps: 0`")):
            parts += [f"## {count} networks {name}, {how}", "", *HEAD]
            for title, both in judgements.items():
                parts.append(line(title, [j for j in both[place] if j.plain is plain]))
            parts.append("")
    chosen = judgements["architecture"][0]
    parts += ["## Reliability", "", "By default, fits without the architecture:", ""]
    parts += ["| confidence | cases | mean | right |", "|---|---|---|---|", *_reliability(chosen)]
    return "\n".join(parts) + "\n"


def _reliability(cases: Sequence[Judged]) -> Iterable[str]:
    for low, high in pairwise((0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.01)):
        inside = [c for c in cases if low <= c.confidence < high]
        if inside:
            told = sum(c.confidence for c in inside) / len(inside)
            right = sum(c.right for c in inside) / len(inside)
            yield (
                f"| {low:.2f} … {min(high, 1.0):.2f} | {len(inside)} | {told:.3f} | {right:.3f} |"
            )


def _disagreement(cases: Sequence[Mapping[str, Any]]) -> float:
    """Share of single trainings whose label is not that of the majority, where there are several;
    a network that is clear at once agrees."""
    label = oracle().label_of
    shares = [
        sum(label([sgd], [adam]) != case["label"] for sgd, adam in runs) / len(runs)
        for case in cases
        for runs in [list(zip(case["sgd"], case["adam"], strict=True))]
    ]
    return float(np.mean(shares))


def module(calibration: Calibration) -> str:
    """service/diagnosis/fitted.py."""
    return (
        '"""Written by `python -m benchmarks.calibrate --write`: not by hand."""\n\n'
        "from service.diagnosis.calibration import Calibration, Weighing\n\n"
        f"FITTED = {calibration!r}\n"
    )


def main() -> None:
    """Observe what is not kept yet, fit, print, and write when asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibrate", description=__doc__)
    parser.add_argument("--cases", nargs="*", type=Path, default=[CASES, OWN_CASES])
    parser.add_argument("--cache", type=Path, default=Path(".calibration"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    cases = [
        json.loads(text)
        for path in arguments.cases
        for text in path.read_text(encoding="utf-8").splitlines()
    ]
    cases = [case for case in cases if not held_out(case["id"])]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        rows = [row(seen) for seen in pool.map(partial(kept, arguments.cache), cases)]
    text = page(rows)
    print(text)
    if arguments.write:
        PAGE.write_text(text, encoding="utf-8")
        MODULE.write_text(module(fitted(rows)), encoding="utf-8")
        run([sys.executable, "-m", "ruff", "format", "--quiet", str(MODULE)], check=True)


if __name__ == "__main__":
    main()
