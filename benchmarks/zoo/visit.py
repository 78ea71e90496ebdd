"""One member trained for a while, and judged by the real pipeline on its way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.score import BUDGET_SECONDS, unwatched
from benchmarks.zoo.animals import ZOO, Animal
from benchmarks.zoo.forms import FORMS, Sent, as_spec, as_torchscript
from benchmarks.zoo.tasks import digits
from service.domain.architecture import resolve
from service.domain.findings import Severity
from service.domain.probe_plan import ProbePlan
from service.domain.request import AnalysisRequest
from service.pipeline import analyse
from service.probing import losses
from service.probing.loaders.spec import build

STEPS = 200
"""Length of the short training, enough for most of them to leave chance well behind."""
STAGES = (0.0, 0.1, 0.5, 1.0)
"""Shares of it after which a network is judged."""
BATCH = 32


@dataclass(frozen=True, slots=True)
class Visit:
    """One network, judged in one form at one stage of its training."""

    name: str
    form: str
    """spec, traced or scripted."""
    stage: float
    """Share of the training that is behind it, 0 … 1."""
    loss: float
    """Training loss there."""
    verdict: str
    confidence: float
    decided_by: str
    """static or trial."""
    errors: tuple[str, ...] = ()
    """Codes of findings of severity error."""
    warnings: tuple[str, ...] = ()
    """Codes of warnings."""
    details: tuple[str, ...] = ()
    """The same findings in words, with their numbers."""


def visit(
    name: str,
    stages: tuple[float, ...] = STAGES,
    forms: tuple[str, ...] = FORMS,
    *,
    trial_steps: int = 100,
) -> list[Visit]:
    """Judge one network at each stage of its training, in each of the forms."""
    torch.set_num_threads(1)
    animal = ZOO[name]
    files = tuple(form for form in forms if form != "spec")
    visits = []
    if "spec" in forms:
        torch.manual_seed(0)
        module: nn.Module = build(resolve(animal.spec()))
        visits += _trained_and_judged(name, module, ("spec",), stages, trial_steps)
    if files:
        torch.manual_seed(0)
        visits += _trained_and_judged(name, animal.build(), files, stages, trial_steps)
    return visits


def _trained_and_judged(
    name: str,
    module: nn.Module,
    forms: tuple[str, ...],
    stages: tuple[float, ...],
    trial_steps: int,
) -> list[Visit]:
    animal = ZOO[name]
    plan = ProbePlan(
        inputs=(animal.inputs,),
        loss=animal.loss,
        trial_steps=trial_steps,
        budget_seconds=BUDGET_SECONDS,
    )
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=1e-3)
    visits, done = [], 0
    for stage in stages:
        steps = round(stage * STEPS)
        loss = _train(module.train(), animal, optimizer, range(done, steps))
        done = steps
        for form in forms:
            visits.append(_judged(name, form, stage, loss, _sent(animal, form, module, done), plan))
    return visits


def _train(
    module: nn.Module, animal: Animal, optimizer: torch.optim.Optimizer, steps: range
) -> float:
    """Train in place; returns the loss of the next batch."""
    for step in steps:
        value = _loss(module, animal, step)
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()
    with torch.no_grad():
        return _loss(module, animal, steps.stop).item()


def _loss(module: nn.Module, animal: Animal, step: int) -> Tensor:
    """Of the batch of one step; the step fixes the rows, and what dropout draws."""
    torch.manual_seed(step)
    pixels, digit = digits()
    chosen = torch.randint(0, len(pixels), (BATCH,))
    inputs, target = animal.task(pixels[chosen], digit[chosen])
    output = module(inputs)
    return losses.named(animal.loss, output).compute(output, target)


def _sent(animal: Animal, form: str, module: nn.Module, done: int) -> Sent:
    if form == "spec":
        return as_spec(animal.spec(), module if done else None)
    pixels, digit = digits()
    example, _ = animal.task(pixels[:BATCH], digit[:BATCH])
    return as_torchscript(form, module, example)


def _judged(name: str, form: str, stage: float, loss: float, sent: Sent, plan: ProbePlan) -> Visit:
    """The whole pipeline on what was sent."""
    report = analyse(AnalysisRequest(sent.request, plan), sent.source, sent, unwatched)
    found = report.diagnosis
    alarms = [f for f in found.findings if f.severity.rank >= Severity.WARNING.rank]
    return Visit(
        name,
        form,
        stage,
        loss,
        found.verdict.value,
        found.confidence,
        found.decided_by,
        tuple(f.code for f in alarms if f.severity is Severity.ERROR),
        tuple(f.code for f in alarms if f.severity is Severity.WARNING),
        tuple(f"{f.code} ({f.confidence:.2f}): {f.detail}" for f in alarms),
    )
