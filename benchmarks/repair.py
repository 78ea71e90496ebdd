"""Do prescriptions make sick networks train?  Judged by the oracle, beside rules of thumb.

    python -m benchmarks.repair [--cases FILE …] [--sick N] [--jobs N] [--out docs/repair.md]

Every sick case (or N of them, evenly spread) is repaired in several ways, and each repaired network
is trained as the labels were (`tests/cases/oracle.py`): our prescription with every change allowed,
with initializers alone, and with the activations fixed; He initialization everywhere; He, ReLU and
batch normalization everywhere; and a random search that draws as many networks as we train, and
keeps the one whose short training learns most. Our own detectors have no say in the result.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

import torch

from benchmarks.accuracy import spread
from benchmarks.families import CRITICAL
from benchmarks.score import BUDGET_SECONDS, CASES, InProcessProber, oracle, unwatched
from service.domain.expanded import expanded
from service.domain.model_source import SpecSource, model_source
from service.domain.probe_plan import ProbePlan
from service.domain.report import Report
from service.domain.request import ALL_KINDS, AnalysisRequest, ModelRequest
from service.pipeline import analyse
from service.verification import MOST_TRIALS

OWN_CASES = Path("tests/cases/own_cases.jsonl")
PAGE = Path("docs/repair.md")
Spec = dict[str, Any]
OURS, INITIALIZERS, FIXED = "graddx", "graddx, initializers alone", "graddx, activations fixed"
HE, RECIPE, RANDOM = "He alone", "He, ReLU, BatchNorm", "random search"
ALLOWED: Mapping[str, tuple[str, ...]] = {
    OURS: ALL_KINDS,
    INITIALIZERS: ("initializer",),
    FIXED: tuple(kind for kind in ALL_KINDS if kind != "activation"),
}
WEIGHTED = {"Linear": "out_features", "Conv1d": "out_channels", "Conv2d": "out_channels"}
"""Layers that a rule of thumb speaks of, and the argument that counts their units."""
NORMS = {"Linear": "BatchNorm1d", "Conv1d": "BatchNorm1d", "Conv2d": "BatchNorm2d"}
SEQUENCE = 2
"""Dimensions of one sample that is a sequence."""
HE_CALL = {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}
DRAWN_INITS: tuple[dict[str, Any] | None, ...] = (
    None,
    HE_CALL,
    {"name": "xavier_normal_", "args": {"gain": 1.0}},
    {"name": "orthogonal_", "args": {"gain": 1.41421356}},
)
DRAWN_ACTIVATIONS = (None, "ReLU", "ELU", "SELU", "GELU", "Tanh")
"""None: as it is."""


@dataclass(frozen=True, slots=True)
class Repair:
    """One sick network, repaired in one way."""

    case: str
    how: str
    offered: bool
    trains: bool
    """SGD or Adam."""
    healthy: bool
    """Both."""
    changes: int
    """Recommendations in the prescription; 0 for others."""
    seconds: float
    """Processor time of finding it, without the oracle's."""


def repaired(job: tuple[Mapping[str, Any], str]) -> Repair:
    """Find it, and have the oracle train it."""
    torch.set_num_threads(1)
    case, how = job
    began = time.process_time()
    spec, changes = WAYS[how](case, how)
    took = time.process_time() - began
    if spec is None:
        return Repair(case["id"], how, False, False, False, 0, took)
    judged = oracle().judge(spec, case["data"], seeds=(0, 1, 2))
    trains, healthy = judged["label"] != "sick", judged["label"] == "healthy"
    return Repair(case["id"], how, True, trains, healthy, changes, took)


def prescribed(case: Mapping[str, Any], how: str) -> tuple[Spec | None, int]:
    """Our own; None where there is no prescription."""
    prescription = report(case["spec"], ALLOWED[how]).prescription
    if prescription is None or prescription.patched_spec is None:
        return None, 0
    return prescription.patched_spec, len(prescription.recommendations)


def report(spec: Spec, allowed: tuple[str, ...]) -> Report:
    """The pipeline's, in this process."""
    model = ModelRequest("spec", spec=spec)
    plan = ProbePlan(budget_seconds=BUDGET_SECONDS, loss="cross_entropy")
    request = AnalysisRequest(model, plan, allowed_changes=allowed)
    return analyse(request, model_source(model, "spec"), InProcessProber(), unwatched)


def he(case: Mapping[str, Any], _how: str) -> tuple[Spec | None, int]:
    """kaiming_normal_ for every weight, zero biases."""
    return changed(written_out(case["spec"]), HE_CALL, None, norm=False), 0


def recipe(case: Mapping[str, Any], _how: str) -> tuple[Spec | None, int]:
    """He, every activation a ReLU, batch normalization before it."""
    return changed(written_out(case["spec"]), HE_CALL, "ReLU", norm=True), 0


def random_search(case: Mapping[str, Any], _how: str) -> tuple[Spec | None, int]:
    """The best of as many draws as we train, by the sum of both optimizers' best progress."""
    r = Random(f"repair/{case['id']}")
    drawn = [
        changed(
            written_out(case["spec"]),
            r.choice(DRAWN_INITS),
            r.choice(DRAWN_ACTIVATIONS),
            norm=r.random() < 0.5,
        )
        for _ in range(MOST_TRIALS)
    ]
    return max(drawn, key=progress), 0


def progress(spec: Spec) -> float:
    """What the short training of this network shows."""
    model = ModelRequest("spec", spec=spec)
    plan = ProbePlan(budget_seconds=BUDGET_SECONDS, loss="cross_entropy")
    with InProcessProber().open(model_source(model, "spec"), plan) as session:
        runs = session.trial().runs
    return sum(max(run.progress for run in runs if run.optimizer == o) for o in ("sgd", "adam"))


def written_out(spec: Spec) -> Spec:
    """Without groups, every size and input named."""
    source = model_source(ModelRequest("spec", spec=spec), "spec")
    assert isinstance(source, SpecSource)
    return expanded(source.architecture)


def changed(
    spec: Spec, init: Mapping[str, Any] | None, activation: str | None, *, norm: bool
) -> Spec:
    """One rule for all layers; the last layer with weights gets no normalization."""
    layers = copy.deepcopy(spec["layers"])
    weighted = [layer for layer in layers if layer["type"] in WEIGHTED]
    for layer in layers:
        if activation is not None and layer["type"] in ACTIVATIONS:
            layer["type"], layer["args"] = activation, {}
        if init is not None and layer["type"] in WEIGHTED:
            zero = {"bias": {"name": "zeros_"}} if layer["args"].get("bias", True) else {}
            layer["init"] = {"weight": dict(init), **zero}
    if norm:
        sequence = len(spec["input"]["shape"]) == SEQUENCE
        layers = list(normalized(layers, weighted[-1] if weighted else None, sequence=sequence))
    return {"input": spec["input"], "layers": layers}


def normalized(layers: Sequence[Spec], last: Spec | None, *, sequence: bool) -> Sequence[Spec]:
    """Batch normalization after every layer with weights but the last, and not along a sequence;
    other normalizations are taken out."""
    kept: list[Spec] = []
    renamed: dict[str, str] = {}
    for layer in layers:
        inputs = [renamed.get(name, name) for name in layer["inputs"]]
        if layer["type"].startswith(("BatchNorm", "LayerNorm", "GroupNorm", "RMSNorm")):
            renamed[layer["name"]] = inputs[0]
            continue
        kept.append({**layer, "inputs": inputs})
        sequence = sequence and layer["type"] not in {"Flatten", "LastStep"}
        if not sequence and layer["type"] in WEIGHTED and layer is not last:
            units = layer["args"][WEIGHTED[layer["type"]]]
            name = f"{layer['name']}_bn"
            args = {"num_features": units}
            kind = NORMS[layer["type"]]
            kept.append({"name": name, "type": kind, "args": args, "inputs": [layer["name"]]})
            renamed[layer["name"]] = name
    return kept


ACTIVATIONS = frozenset(CRITICAL) - {"Identity"}
WAYS: Mapping[str, Callable[[Mapping[str, Any], str], tuple[Spec | None, int]]] = {
    OURS: prescribed,
    INITIALIZERS: prescribed,
    FIXED: prescribed,
    HE: he,
    RECIPE: recipe,
    RANDOM: random_search,
}


def table(repairs: Sequence[Repair]) -> list[str]:
    """One row per way."""
    rows = [
        "| repair | offered | not sick | healthy | changes | s |",
        "|---|---|---|---|---|---|",
    ]
    for how in WAYS:
        found = [one for one in repairs if one.how == how]
        if not found:
            continue
        changes = [one.changes for one in found if one.changes]
        rows.append(
            f"| {how} | {sum(one.offered for one in found)}/{len(found)} "
            f"| {mean(one.trains for one in found):.3f} | {mean(one.healthy for one in found):.3f} "
            f"| {f'{mean(changes):.1f}' if changes else '–'} "
            f"| {mean(one.seconds for one in found):.1f} |"
        )
    return rows


def page(repairs: Sequence[Repair], whats: Mapping[str, str], command: str) -> str:
    """docs/repair.md."""
    left = [one for one in repairs if one.how == OURS and not one.healthy]
    return "\n".join(
        [
            "# Do prescriptions make networks train?",
            "",
            f"Written by `{command}`. Sick networks, repaired and then trained as the labels were "
            "(`tests/cases/oracle.py`): not sick, SGD or Adam at some rate gets half-way or there; "
            "healthy, both reach 90 % training accuracy in 400 steps. Seconds are processor time "
            "of one thread for finding the repair.",
            "",
            *table(repairs),
            "",
            "## Not healthy after our prescription",
            "",
            *(
                f"* `{one.case}` {whats[one.case]}: "
                f"{'half-way' if one.trains else 'sick' if one.offered else 'none offered'}"
                for one in left
            ),
            *([] if left else ["None."]),
            "",
        ]
    )


def main() -> None:
    """Repair and train them all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repair", description=__doc__)
    parser.add_argument("--cases", type=Path, nargs="+", default=[CASES, OWN_CASES])
    parser.add_argument("--sick", type=int, default=10**6)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=PAGE)
    arguments = parser.parse_args()
    sick = [
        case
        for path in arguments.cases
        for line in path.read_text(encoding="utf-8").splitlines()
        if (case := json.loads(line))["label"] == "sick"
    ]
    chosen = [case for i, case in enumerate(sick) if i in spread(len(sick), arguments.sick)]
    jobs = [(case, how) for case in chosen for how in arguments.ways]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        repairs = list(pool.map(repaired, jobs))
    command = "python -m benchmarks.repair"
    command += f" --sick {arguments.sick}" if arguments.sick < len(sick) else ""
    whats = {case["id"]: case["what"] for case in chosen}
    arguments.out.write_text(page(repairs, whats, command), encoding="utf-8")
    print("\n".join(table(repairs)))


if __name__ == "__main__":
    main()
