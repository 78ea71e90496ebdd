"""Greedy pre-training: what it trains, what it leaves alone, and that rectifiers do without."""

from __future__ import annotations

import io
from statistics import mean
from typing import Any

import pytest
import torch
from safetensors.torch import load

from benchmarks.pretraining import compared
from service.domain.architecture import resolve
from service.domain.errors import ChangeRefused
from service.domain.probe_plan import ProbePlan
from service.probing.session import Session

DEPTH = 12


def stack(activation: str) -> dict[str, Any]:
    layers: list[dict[str, Any]] = []
    for index in range(DEPTH):
        layers.append({"name": f"fc{index}", "type": "Linear", "args": {"out_features": 32}})
        layers.append({"type": activation})
    layers.append({"name": "head", "type": "Linear", "args": {"out_features": 10}})
    return {"input": {"shape": [32]}, "layers": layers}


def change(*layers: str, steps: int = 60) -> dict[str, Any]:
    return {"kind": "pretraining", "layers": list(layers), "steps": steps, "lr": 0.03}


HIDDEN = tuple(f"fc{index}" for index in range(DEPTH))


def opened(activation: str = "Tanh") -> Session:
    plan = ProbePlan(batch_size=32, batches=2, seeds=2, trial_steps=60)
    return Session.open(plan, resolve(stack(activation)), None)


def test_a_vanishing_stack_learns_after_it() -> None:
    session = opened()
    before = session.measure()
    after = session.measure((change(*HIDDEN),))
    assert before.model.total_gain is not None
    assert after.model.total_gain is not None
    assert before.model.total_gain < 0.01
    assert after.model.total_gain > 10.0 * before.model.total_gain
    progress = [
        max(run.progress for run in session.trial(c).runs) for c in ((), (change(*HIDDEN),))
    ]
    assert progress[1] > progress[0]
    assert session.measure() == before


def test_only_what_is_named_is_trained() -> None:
    session = opened()
    plain, trained = io.BytesIO(), io.BytesIO()
    session.export(plain)
    session.export(trained, (change("fc0", "fc1", steps=3),))
    before, after = load(plain.getvalue()), load(trained.getvalue())
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"fc0.weight", "fc0.bias", "fc1.weight", "fc1.bias"}


def test_the_same_every_time() -> None:
    first, second = (opened().measure((change(*HIDDEN, steps=3),)) for _ in range(2))
    assert first == second


def test_it_follows_other_changes() -> None:
    draws = [
        {"parameter": f"{name}.weight", "initializer": "orthogonal_", "args": {}} for name in HIDDEN
    ]
    drawn = {"kind": "initializer", "parameters": draws}
    session = opened()
    one = session.measure((drawn,)).model.loss_at_start
    both = session.measure((drawn, change(*HIDDEN, steps=3))).model.loss_at_start
    assert one != both


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ((change("nothing"),), "no linear layer"),
        ((change(),), "pretraining: layers"),
        ((change("fc0", steps=0),), "pretraining: layers"),
        ((change("fc0", steps=10**6),), "pretraining: layers"),
        ((change("fc0"), change("fc1")), "pre-trained once"),
    ],
)
def test_what_cannot_be_done_is_refused(wanted: tuple[dict[str, Any], ...], says: str) -> None:
    session = opened()
    before = session.measure()
    with pytest.raises(ChangeRefused, match=says):
        session.measure(wanted)
    assert session.measure() == before


def test_relu_without_is_at_least_as_good_as_sigmoid_with() -> None:
    found = {
        (one.activation, one.pretrained): mean(one.accuracy)
        for one in compared(1, depth=4, steps=150)
    }
    assert found["ReLU", False] >= found["Sigmoid", True]
    assert found["Sigmoid", True] > found["Sigmoid", False]
