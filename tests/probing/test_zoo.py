"""Healthy networks at their usual initializations raise no alarm; `python -m benchmarks.zoo` has
all of them, at more stages and with the short training."""

from __future__ import annotations

import pytest
from torch import nn

from benchmarks.zoo import ZOO, Visit, row, table, visit

SMALL = ("perceptron", "regression", "autoencoder", "lora", "lstm", "gru", "segmentation")
"""Cheap enough to be trained for a while as well."""
LARGE = ("resnet_zero", "vit_zero_head", "convnext", "gpt2", "mixer", "vgg_bn")
"""Each with a branch, a head or a scale that begins small on purpose."""


def _clean(seen: Visit) -> bool:
    return seen.verdict != "unhealthy" and not seen.errors and len(seen.warnings) <= 1


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_before_and_after_training(name: str) -> None:
    visits = visit(name, (0.0, 0.5))
    assert [seen.verdict for seen in visits] == ["healthy", "healthy"]
    assert all(_clean(seen) for seen in visits), visits
    assert visits[1].loss < visits[0].loss


@pytest.mark.parametrize("name", LARGE)
def test_static_statistics_alone_raise_no_alarm(name: str) -> None:
    (seen,) = visit(name, (0.0,), trial_steps=0)
    assert _clean(seen), seen


def test_a_sick_animal_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck() -> nn.Module:
        layers = [part for _ in range(20) for part in (nn.Linear(64, 64), nn.Sigmoid())]
        return nn.Sequential(*layers, nn.Linear(64, 10))

    animal = ZOO["perceptron"]
    zoo = {"stuck": type(animal)(stuck, animal.inputs, animal.task)}
    monkeypatch.setattr("benchmarks.zoo.ZOO", zoo)
    (seen,) = visit("stuck", (0.0,), trial_steps=0)
    assert seen.verdict == "unhealthy"
    assert seen.errors == ("vanishing_gradient",)
    assert "ERROR vanishing_gradient" in row(seen)
    assert "1 visits: 1 unhealthy, 1 with an error" in table([seen])
