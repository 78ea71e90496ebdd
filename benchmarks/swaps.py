"""Is the recommended activation, or normalization, the one to take?  Every other one is tried.

    python -m benchmarks.swaps [--cases N] [--jobs N]

Sick cases that are offered another activation (a normalization) get that one change alone, and
in its place every other activation (normalization), each with the weights drawn for it as ours are.
All are trained as the labels were (`tests/cases/oracle.py`); a swap's score is the mean over SGD
and Adam of the best training accuracy, counted up to 0.93, where the oracle stops. Printed is how
often ours is within a point of the best single swap, for docs/cures.md.

A case is a line of `.repair/swaps.jsonl` when it is done; the command goes on from there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import torch

from benchmarks.accuracy import OWN_CASES, spread
from benchmarks.score import BUDGET_SECONDS, CASES, InProcessProber, oracle, unwatched
from service.domain.architecture import Architecture, resolve
from service.domain.measurements import Measurements
from service.domain.model_source import model_source
from service.domain.probe_plan import ProbePlan
from service.domain.recommendations import Recommendation
from service.domain.request import AnalysisRequest, ModelRequest
from service.pipeline import analyse
from service.recommendation.initialization import Place, as_change, draws_for
from service.recommendation.repaired import repaired

RECORDS = Path(".repair/swaps.jsonl")
ACTIVATIONS: Mapping[str, str] = {
    "ReLU": "relu",
    "LeakyReLU": "leaky_relu",
    "ELU": "elu",
    "SELU": "selu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Tanh": "tanh",
}
"""Classes of torch.nn and what layers with them are called."""
NORMALIZATIONS: Mapping[str, tuple[str, ...]] = {
    "linear": ("BatchNorm1d", "LayerNorm", "RMSNorm"),
    "conv2d": ("BatchNorm2d", "GroupNorm"),
}
"""By the kind of layer they follow."""
KINDS = ("activation", "normalization")
QUICK_SECONDS = 8.0
"""Processor time that labelling a case took, beyond which it is passed over."""
STOPS = 0.93
"""Accuracy at which the oracle stops."""
NEAR = 0.01
"""A point of accuracy."""
Outcome = dict[str, Any]
"""One case: `id`, `what`, `kind`, `ours` (a class name), `scores` by class name."""


def outcomes(case: Mapping[str, Any]) -> list[Outcome]:
    """Of each kind that is recommended for the case."""
    torch.set_num_threads(1)
    architecture = resolve(case["spec"])
    measured, advised = _advice(case["spec"])
    found = []
    for one in advised:
        swaps = _swaps(one, measured, architecture)
        scores = {
            name: _score(done.spec, case["data"])
            for name, change in swaps.items()
            if (done := repaired(architecture, [change])) is not None
        }
        ours = str(one.change[one.kind])
        if ours in scores:
            told = {"id": case["id"], "what": case["what"], "kind": one.kind}
            found.append({**told, "ours": ours, "scores": scores})
    return found or [{"id": case["id"], "what": case["what"], "kind": None}]


def _advice(spec: dict[str, Any]) -> tuple[Measurements, list[Recommendation]]:
    """What is offered of these kinds; taking an output's ReLU off is no exchange."""
    model = ModelRequest("spec", spec=spec)
    plan = ProbePlan(budget_seconds=BUDGET_SECONDS, loss="cross_entropy")
    request = AnalysisRequest(model, plan, allowed_changes=KINDS)
    report = analyse(request, model_source(model, "spec"), InProcessProber(), unwatched)
    offered = [
        one
        for one in report.recommendations
        if isinstance(one.change[one.kind], str) and one.change[one.kind] != "Identity"
    ]
    return Measurements(report.model, report.layers, ()), offered


def _swaps(
    one: Recommendation, measured: Measurements, architecture: Architecture
) -> dict[str, dict[str, Any]]:
    """Ours and the others, by class name."""
    own = {**one.change, "kind": one.kind, "layers": one.change.get("layers", one.layers)}
    swaps = {str(one.change[one.kind]): own}
    layers = [layer for layer in measured.layers if layer.name in one.layers]
    if one.kind == "activation":
        for name, said in ACTIVATIONS.items():
            drawn = [replace(layer, nonlinearity=said) for layer in layers]
            draws = tuple(draw for layer in drawn for draw in draws_for(layer, Place()))
            if name != one.change["replaces"]:
                swaps.setdefault(name, {**own, "activation": name, **as_change(draws)})
        return swaps
    for name in NORMALIZATIONS.get(layers[0].op, ()):
        units = {node.name: node.parameters["weight"][0] for node in architecture.layers
                 if node.name in one.layers}  # fmt: skip
        entries = [
            {"after": layer, "type": name, "args": _sized(name, count)}
            for layer, count in units.items()
        ]
        swaps.setdefault(name, {"kind": one.kind, "layers": entries})
    return swaps


def _sized(name: str, units: int) -> dict[str, int]:
    if name == "GroupNorm":
        return {"num_groups": 1, "num_channels": units}
    return {"num_features" if name.startswith("Batch") else "normalized_shape": units}


def _score(spec: dict[str, Any], data: str) -> float:
    judged: dict[str, list[float]] = oracle().judge(spec, data, seeds=(0,))
    return sum(min(STOPS, max(judged[name])) for name in ("sgd", "adam")) / 2.0


def summary(found: Sequence[Outcome], kind: str) -> str:
    """Markdown: how often ours is near the best, and where it is not."""
    ours = [one for one in found if one["kind"] == kind]
    short = [one for one in ours if _lost(one) > NEAR]
    usual = sorted({name for one in ours for name in one["scores"]})
    always = {
        name: sum(
            max(one["scores"].values()) - one["scores"].get(name, 0.0) <= NEAR for one in ours
        )
        for name in usual
    }
    beside = ", ".join(f"{name} {count}" for name, count in always.items())
    lines = [
        f"{len(ours)} sick networks were offered one {kind}; it comes within a point of the best "
        f"single swap in {len(ours) - len(short)}. Always the same one would in: {beside}."
    ]
    if short:
        lines += ["", "| short of it | ours | score | best | score |", "|---|---|---|---|---|"]
        lines += [_row(one) for one in sorted(short, key=_lost, reverse=True)]
    return "\n".join(lines)


def _lost(one: Outcome) -> float:
    return _behind(one, one["ours"])


def _behind(one: Outcome, name: str) -> float:
    """Of the best, 0 … 1."""
    scores: dict[str, float] = one["scores"]
    return max(scores.values()) - scores.get(name, 0.0)


def _row(one: Outcome) -> str:
    scores = one["scores"]
    best = max(scores, key=scores.__getitem__)
    return (
        f"| `{one['id']}` {one['what']} | {one['ours']} | {scores[one['ours']]:.3f} | {best} "
        f"| {scores[best]:.3f} |"
    )


def chosen_cases(count: int) -> list[dict[str, Any]]:
    """Sick ones that are quick to train, evenly spread over both files."""
    lines = (line for path in (CASES, OWN_CASES) for line in path.open(encoding="utf-8"))
    sick = [case for line in lines if (case := json.loads(line))["label"] == "sick"]
    quick = [case for case in sick if case["s"] <= QUICK_SECONDS]
    return [quick[index] for index in sorted(spread(len(quick), count))]


def recorded(path: Path) -> list[Outcome]:
    """What is done already."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def compared(count: int, jobs: int, path: Path = RECORDS) -> Iterator[Outcome]:
    """The outcomes of so many cases, those recorded first."""
    done = recorded(path)
    known = {one["id"] for one in done}
    cases = chosen_cases(count)
    wanted = {case["id"] for case in cases}
    yield from (one for one in done if one["id"] in wanted)
    waiting = [case for case in cases if case["id"] not in known]
    Random(0).shuffle(waiting)
    path.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(jobs) as pool, path.open("a", encoding="utf-8") as file:
        for future in as_completed([pool.submit(outcomes, case) for case in waiting]):
            for one in future.result():
                file.write(json.dumps(one) + "\n")
                yield one
            file.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=45)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    told = list(compared(arguments.cases, arguments.jobs))
    print("\n\n".join(summary(told, kind) for kind in KINDS))
