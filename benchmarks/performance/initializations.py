"""Several initializations over as many bare passes, and a whole answer over one."""

from __future__ import annotations

import statistics

import torch

from benchmarks.performance.models import Network, perceptron
from benchmarks.performance.timing import Act, interleaved, quartiles, table, timed
from benchmarks.score import report_on
from service.domain.architecture import Architecture, resolve
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing.session import Session

TITLE = "Initializations and what-ifs"
TEXT = """Eight fresh initializations of a 20-layer MLP of width 128, batch 64, one recording
for all, over eight bare forward and backward passes; initialized and summed up as well. Aim: ≤
1.1. Below it what drawing the eight takes by itself, with PyTorch's own modules and functions.

A whole answer (recommendations measured, a prescription; the short training left out) over one
bare forward and backward pass of the same model. Aim: ≤ 60 where that takes ≥ 50 ms."""
SEEDS = 8
SECONDS = 8.0
ANSWERS = 3


def section() -> str:
    """Markdown."""
    rows = [
        *_initializations(),
        ["answer, sigmoid MLP 20×128", *_answer(128)],
        ["answer, sigmoid MLP 20×1536", *_answer(1536)],
    ]
    return f"{TEXT}\n\n{table(['what', 'reference, ms', 'ratio'], rows)}"


def _initializations() -> list[list[str]]:
    network = Network("", lambda: perceptron(20, 128), InputPlan((128,)), 64)
    model = network.made()
    plan = ProbePlan(batch_size=64, batches=1, seeds=SEEDS, trial_steps=0)
    session = Session.open(plan, _architecture(128, "ReLU"), None)
    parameters = list(model.parameters())

    def bare() -> None:
        for number in range(SEEDS):
            batch = session.batch(0, number)
            output = model(*batch.inputs)
            loss = session.loss.compute(output, batch.target(output, session.loss))
            torch.autograd.grad(loss, parameters)

    def draw() -> None:
        for number in range(SEEDS):
            session.weights.draw(number)

    acts: dict[str, Act] = {
        "8 initializations, MLP 20×128": session.measure,
        "of these: drawing the parameters": draw,
    }
    found = interleaved(bare, acts, SECONDS)
    reference = f"{1e3 * statistics.median(found.reference):.1f}"
    return [[what, reference, str(found.ratios[what])] for what in acts]


def _answer(width: int) -> tuple[str, str]:
    spec = specification(width, "Sigmoid")
    session = Session.open(ProbePlan(trial_steps=0), resolve(spec), None)
    model, batch = session.model.module, session.batch(0, 0)
    parameters = list(session.parameters.values())

    def bare() -> None:
        output = model(*batch.inputs)
        loss = session.loss.compute(output, batch.target(output, session.loss))
        torch.autograd.grad(loss, parameters)

    def answer() -> None:
        report_on({"spec": spec}, ProbePlan(trial_steps=0, budget_seconds=600))

    bare()
    ratios, base = [], []
    for _ in range(ANSWERS):
        before = [timed(bare) for _ in range(5)]
        took = timed(answer)
        base.append(statistics.median(before + [timed(bare) for _ in range(5)]))
        ratios.append(took / base[-1])
    low, middle, high = quartiles(ratios)
    return f"{1e3 * statistics.median(base):.1f}", f"{middle:.0f} ({low:.0f}–{high:.0f})"


def specification(
    width: int, activation: str, depth: int = 20, inputs: int = 64
) -> dict[str, object]:
    """An MLP as PyTorch initializes it; for ReLU He's initialization."""
    init = {"weight": {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}}
    layers: list[dict[str, object]] = []
    for index in range(depth):
        linear: dict[str, object] = {
            "name": f"fc{index}",
            "type": "Linear",
            "args": {"out_features": width},
        }
        layers += [linear | ({"init": init} if activation == "ReLU" else {}), {"type": activation}]
    head = {"name": "head", "type": "Linear", "args": {"out_features": 10}}
    return {"input": {"shape": [inputs]}, "layers": [*layers, head]}


def _architecture(width: int, activation: str) -> Architecture:
    return resolve(specification(width, activation, inputs=width))
