"""What is exported can be loaded where it came from."""

from __future__ import annotations

import io

import pytest
import torch
from safetensors.torch import load
from torch import Tensor, nn

from service.domain.architecture import resolve
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing.session import Session
from tests.probing.models import saved, scripted

PLAN = ProbePlan(inputs=(InputPlan((6,)),), batch_size=4, batches=1, seeds=1)


class Tied(nn.Module):
    """Two layers share a weight; a buffer; a weight that lies across memory."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6)
        self.second = nn.Linear(6, 6, bias=False)
        self.second.weight = self.first.weight
        self.across = nn.Parameter(torch.randn(6, 6).t())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(torch.tanh(self.norm(self.first(x)))) @ self.across
        return y


def exported(session: Session, *changes: dict[str, object]) -> dict[str, Tensor]:
    file = io.BytesIO()
    size = session.export(file, changes)
    assert size == len(file.getvalue())
    return load(file.getvalue())


@pytest.mark.parametrize("redrawn", [False, True], ids=["as it came", "drawn anew"])
def test_a_file_gets_the_names_and_values_it_had(redrawn: bool) -> None:
    model = Tied()
    session = Session.open(PLAN, None, saved(scripted(model)))
    draw = {"parameter": "first.weight", "initializer": "ones_"}
    change: dict[str, object] = {"kind": "initializer", "parameters": [draw]}
    state = exported(session, *([change] if redrawn else []))
    assert set(state) == set(model.state_dict())
    expected = torch.ones(6, 6) if redrawn else model.first.weight
    assert torch.equal(state["first.weight"], expected)
    assert torch.equal(state["second.weight"], expected)
    assert torch.equal(state["across"], model.across)
    assert torch.equal(state["norm.running_mean"], torch.zeros(6))
    Tied().load_state_dict(state)


def test_a_spec_is_exported_as_it_was_drawn_first() -> None:
    layers = [{"name": "fc", "type": "Linear", "args": {"out_features": 3}}]
    session = Session.open(PLAN, resolve({"input": {"shape": [6]}, "layers": layers}), None)
    before = {name: value.detach().clone() for name, value in session.parameters.items()}
    session.measure()
    state = exported(session)
    assert set(state) == set(before)
    assert all(torch.equal(state[name], before[name]) for name in before)
