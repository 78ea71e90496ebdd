"""The first step of the named optimizer against torch.optim's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from service.domain.probe_plan import InputPlan, OptimizerPlan, ProbePlan
from service.probing.loaders.loaded import loaded
from service.probing.session import Session
from tests.probing.models import ConvNet, mlp

PLANS = {
    "sgd": OptimizerPlan("sgd", 0.1, momentum=0.9, weight_decay=0.01),
    "adam": OptimizerPlan("adam", 1e-3),
    "adamw": OptimizerPlan("adamw", 1e-2, weight_decay=0.1),
    "clipped": OptimizerPlan("sgd", 0.5, clip_norm=0.1),
}


def theirs(plan: OptimizerPlan, model: nn.Module) -> torch.optim.Optimizer:
    if plan.name == "sgd":
        return torch.optim.SGD(
            model.parameters(), plan.lr, momentum=plan.momentum, weight_decay=plan.weight_decay
        )
    kind = torch.optim.Adam if plan.name == "adam" else torch.optim.AdamW
    return kind(model.parameters(), plan.lr, weight_decay=plan.weight_decay)


def opened(model: nn.Module, shape: tuple[int, ...], optimizer: OptimizerPlan | None) -> Session:
    plan = ProbePlan(
        inputs=(InputPlan(shape),), batch_size=8, batches=2, seeds=1, optimizer=optimizer
    )
    return Session(loaded("torchscript", model, mode="train", dtype=torch.float32), plan)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("convolutional", [False, True])
def test_ratio_is_that_of_torchs_own_step(name: str, convolutional: bool) -> None:
    torch.manual_seed(0)
    model = ConvNet() if convolutional else mlp(3, 16, nn.Tanh)
    shape = (1, 8, 8) if convolutional else (64,)
    plan = PLANS[name]
    session = opened(model, shape, plan)
    before = copy.deepcopy(model.state_dict())
    found = {p.name: p.update_ratio for one in session.measure().layers for p in one.parameters}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    batch = session.batch(0, 0)
    torch.manual_seed(batch.seed)
    output = model(*batch.inputs)
    session.loss.compute(output, batch.target(output, session.loss)).backward()
    if plan.clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), plan.clip_norm)
    theirs(plan, model).step()
    for key, value in model.named_parameters():
        size = before[key].norm().item()
        expected = (value.detach() - before[key]).norm().item() / size if size else None
        assert found[key] == (None if expected is None else pytest.approx(expected, rel=1e-3))


def test_no_optimizer_no_ratio() -> None:
    measured = opened(mlp(1, 8, nn.ReLU), (64,), None).measure()
    assert all(p.update_ratio is None for one in measured.layers for p in one.parameters)
