"""Healthy networks at their usual initializations raise no alarm, in whatever form they are sent;
`python -m benchmarks.zoo` has all of them, at more stages and with the short training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks.zoo.animals import ZOO
from benchmarks.zoo.forms import FORMS, as_spec, as_torchscript
from benchmarks.zoo.page import alarms, row, totals
from benchmarks.zoo.tasks import digits
from benchmarks.zoo.visit import BATCH, Visit, visit
from service.domain.architecture import resolve
from service.domain.probe_plan import ProbePlan
from service.probing.loaders.spec import build

TRAINED = ("lora",)
"""Cheap enough to be trained for a while as well."""
AT_START = ("perceptron", "resnet_zero", "mixer", "gru")
"""Some with a branch, a head or a scale that begins small on purpose."""


def _clean(seen: Visit) -> bool:
    return seen.verdict != "unhealthy" and not seen.errors and len(seen.warnings) <= 1


@pytest.mark.parametrize("name", TRAINED)
def test_small_networks_before_and_after_training(name: str) -> None:
    visits = visit(name, (0.0, 0.1))
    assert sorted((seen.form, seen.stage) for seen in visits) == sorted(
        (form, stage) for form in FORMS for stage in (0.0, 0.1)
    )
    assert all(seen.verdict == "healthy" for seen in visits), visits
    assert all(_clean(seen) for seen in visits), visits
    for form in FORMS:
        start, later = (seen.loss for seen in visits if seen.form == form)
        assert later < start


@pytest.mark.parametrize("name", AT_START)
def test_static_statistics_alone_raise_no_alarm(name: str) -> None:
    for seen in visit(name, (0.0,), trial_steps=0):
        assert _clean(seen), seen


@pytest.mark.parametrize("name", ZOO)
def test_every_member_can_be_trained_and_sent_in_every_form(name: str) -> None:
    animal = ZOO[name]
    pixels, digit = digits()
    example, _ = animal.task(pixels[:BATCH], digit[:BATCH])
    spec_module, module = build(resolve(animal.spec())), animal.build().train()
    shape = module(example).shape
    assert spec_module(example).shape == shape
    plan = ProbePlan(
        inputs=(animal.inputs,), loss=animal.loss, batch_size=4, batches=1, seeds=1, trial_steps=0
    )
    for sent in (
        as_spec(animal.spec(), spec_module),
        as_torchscript("traced", module, example),
        as_torchscript("scripted", module, example),
    ):
        with sent.open(sent.source, plan) as session:
            assert session.facts.parameters > 0
            assert session.facts.recorded


@pytest.mark.parametrize("name", [name for name, animal in ZOO.items() if not animal.spec_lacks])
def test_a_spec_has_as_many_parameters_as_the_module(name: str) -> None:
    animal = ZOO[name]
    torch.manual_seed(0)
    module = animal.build()
    sizes = sorted(parameter.numel() for parameter in module.parameters())
    spec_sizes = sorted(p.numel() for p in build(resolve(animal.spec())).parameters())
    assert spec_sizes == sizes


def test_trained_weights_go_with_the_spec() -> None:
    torch.manual_seed(0)
    spec = ZOO["perceptron"].spec()
    module = build(resolve(spec))
    weights = dict(module.named_parameters())
    with torch.no_grad():
        for value in weights.values():
            value.fill_(0.125)
    sent = as_spec(spec, module)
    assert sent.request.weights_id is not None
    with sent.open(sent.source, ProbePlan(batch_size=4, batches=1, trial_steps=0)) as session:
        rms = [p.rms for layer in session.measure().layers for p in layer.parameters]
    assert rms == pytest.approx([0.125] * len(weights))


def test_a_sick_animal_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck() -> nn.Module:
        layers = [part for _ in range(20) for part in (nn.Linear(64, 64), nn.Sigmoid())]
        return nn.Sequential(*layers, nn.Linear(64, 10))

    zoo = {"stuck": replace(ZOO["perceptron"], build=stuck)}
    monkeypatch.setattr("benchmarks.zoo.visit.ZOO", zoo)
    seen, again = visit("stuck", (0.0,), ("traced", "scripted"), trial_steps=0)
    assert seen == replace(again, form="traced")
    assert seen.verdict == "unhealthy"
    assert seen.errors == ("vanishing_gradient",)
    assert "| traced | 0% |" in row(seen)
    assert "| vanishing_gradient |" in row(seen)
    assert "| traced | 1 | 1 | 0 | 1 |" in totals([seen])
    assert "* stuck, traced, 0%: vanishing_gradient" in alarms([seen])
