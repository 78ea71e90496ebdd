"""Which statistics a batch normalization uses, and over how many values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from service.domain.measurements import BatchNormalization
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing.loaders.loaded import loaded
from service.probing.session import Session
from tests.probing.models import ConvNet, resnet, saved, scripted, traced


class Branches(nn.Module):
    """Two ways, one normalized, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(8, 16)
        self.norm = nn.BatchNorm1d(16, affine=False)
        self.right = nn.Linear(8, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.left(x)) + self.right(x))
        return logits


def found(session: Session) -> dict[str, BatchNormalization | None]:
    return {layer.name: layer.batch_normalization for layer in session.measure().layers}


def opened(model: nn.Module, *shape: int, **given: Any) -> Session:
    plan = ProbePlan(**{"inputs": (InputPlan(shape),), "batch_size": 6, "seeds": 1, **given})
    return Session(loaded("torchscript", model, mode=plan.mode, dtype=torch.float32), plan)


@pytest.mark.parametrize("script", [False, True])
def test_every_batch_norm_is_its_layers(script: bool) -> None:
    session = opened(resnet(), 3, 8, 8)
    if script:
        session = Session.open(session.plan, None, saved(scripted(resnet())))
    seen = found(session)
    norms = [one for one in seen.values() if one is not None]
    assert norms == [BatchNormalization(6 * 64, own_statistics=True)] * 9


def test_vectors_have_one_value_a_sample_and_need_no_weight() -> None:
    own = BatchNormalization(6, own_statistics=True)
    assert found(opened(Branches(), 8)) == {"left": own, "right": None, "head": None}


@pytest.mark.parametrize("mode", ["train", "eval", "as_saved"])
def test_a_trace_in_evaluation_mode_keeps_it(mode: str) -> None:
    file = saved(traced(ConvNet().eval(), torch.randn(6, 1, 8, 8)))
    plan = ProbePlan(inputs=(InputPlan((1, 8, 8)),), batch_size=6, seeds=1, mode=mode)
    expected = BatchNormalization(6 * 64, own_statistics=False)
    assert found(Session.open(plan, None, file))["conv"] == expected


def test_a_script_follows_the_mode_asked_for() -> None:
    for mode, own in (("train", True), ("eval", False)):
        file = saved(scripted(ConvNet().eval()))
        plan = ProbePlan(inputs=(InputPlan((1, 8, 8)),), batch_size=6, seeds=1, mode=mode)
        seen = found(Session.open(plan, None, file))["conv"]
        assert seen == BatchNormalization(6 * 64, own_statistics=own)


def test_instance_normalization_is_none() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    assert set(found(opened(model, 1, 8, 8)).values()) == {None}
