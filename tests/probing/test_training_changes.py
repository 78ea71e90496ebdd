"""Another rate, weight decay, clipping, a loss scale: the training changes, not the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from service.domain.architecture import resolve
from service.domain.errors import ChangeRefused
from service.domain.probe_plan import OptimizerPlan, ProbePlan
from service.probing.optimizers import updates
from service.probing.session import Session

SPEC: dict[str, Any] = {
    "input": {"shape": [16]},
    "layers": [
        {"name": "fc", "type": "Linear", "args": {"out_features": 16}},
        {"type": "LayerNorm"},
        {"type": "Tanh"},
        {"name": "head", "type": "Linear", "args": {"out_features": 10}},
    ],
}


def opened(optimizer: OptimizerPlan | None = None) -> Session:
    plan = ProbePlan(batch_size=16, batches=2, seeds=2, trial_steps=12, optimizer=optimizer)
    return Session.open(plan, resolve(SPEC), None)


def test_another_rate_is_the_plan_with_that_rate() -> None:
    changed = opened(OptimizerPlan("sgd", 0.1, 0.9)).trial(({"kind": "learning_rate", "lr": 0.3},))
    assert changed == opened(OptimizerPlan("sgd", 0.3, 0.9)).trial()


def test_clipping_is_the_plan_with_that_norm() -> None:
    changed = opened(OptimizerPlan("sgd", 0.1)).trial(({"kind": "clipping", "max_norm": 0.01},))
    assert changed == opened(OptimizerPlan("sgd", 0.1, clip_norm=0.01)).trial()


def test_changes_of_the_training_leave_the_model_alone() -> None:
    session = opened()
    before, trained = session.measure(), session.trial()
    session.trial(({"kind": "regularization", "weight_decay": 0.1},))
    session.measure(({"kind": "loss_scaling", "loss_scale": 1024.0},))
    assert session.measure(({"kind": "clipping", "max_norm": 1.0},)) == before
    assert session.measure() == before
    assert session.trial() == trained


def test_a_loss_scale_is_a_factor_of_every_gradient() -> None:
    session = opened()
    before = session.measure()
    scaled = session.measure(({"kind": "loss_scaling", "loss_scale": 1024.0},))
    for here, there in zip(scaled.layers, before.layers, strict=True):
        assert here.gradient.norm == pytest.approx(1024.0 * (there.gradient.norm or 0.0))
        assert here.gradient.gain == pytest.approx(there.gradient.gain)
        assert here.activation == there.activation


def test_a_change_of_the_training_goes_with_one_of_the_model() -> None:
    session = opened(OptimizerPlan("sgd", 0.1))
    tanh = {"kind": "activation", "layers": ["fc"], "activation": "ReLU"}
    rate = {"kind": "learning_rate", "lr": 0.3}
    both = session.trial((tanh, rate))
    assert both != session.trial((tanh,))
    assert both != session.trial((rate,))
    assert both.runs[0].lr == 0.3


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weight_decay_spares_vectors_and_is_torchs(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    reference = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    reference.load_state_dict(model.state_dict())
    parameters: list[torch.Tensor] = list(model.parameters())
    update = updates(parameters, OptimizerPlan(name, 0.1), 0.05)
    groups = [
        {"params": [p for p in reference.parameters() if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in reference.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    made = torch.optim.SGD if name == "sgd" else torch.optim.AdamW
    optimizer = made(groups, lr=0.1)
    for _ in range(5):
        x = torch.randn(8, 4)
        update(list(torch.autograd.grad(model(x).square().sum(), parameters)))
        optimizer.zero_grad()
        reference(x).square().sum().backward()
        optimizer.step()
    for mine, theirs in zip(parameters, reference.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "learning_rate", "lr": 0}, "lr is a number > 0"),
        ({"kind": "regularization"}, "weight_decay is a number > 0"),
        ({"kind": "loss_scaling", "loss_scale": "2"}, "loss_scale is a number > 0"),
        ({"kind": "learning_rate", "lr": 0.1}, "of an optimizer that is named"),
    ],
)
def test_what_cannot_be_done_is_refused(change: dict[str, Any], says: str) -> None:
    session = opened()
    with pytest.raises(ChangeRefused, match=says):
        session.trial((change,))
