"""Dropout lowered in the recorded graph is dropout lowered in the spec, whatever its kind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from service.domain.architecture import resolve
from service.domain.errors import ChangeRefused
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing.session import Session
from service.recommendation.repaired import repaired
from tests.probing.models import saved, scripted

PLAN = ProbePlan(batch_size=16, batches=2, seeds=1)
LOWER = {"kind": "regularization", "dropout": 0.25}
Spec = dict[str, Any]
HEAD = {"name": "head", "type": "Linear", "args": {"out_features": 10}}
MODELS: dict[str, tuple[list[int], list[Spec], list[tuple[float, ...]]]] = {
    "before and behind a layer": (
        [32],
        [
            {"type": "Dropout", "args": {"p": 0.3}},
            {"name": "fc", "type": "Linear", "args": {"out_features": 32}},
            {"type": "ReLU"},
            {"type": "Dropout", "args": {"p": 0.9, "inplace": True}},
            {"type": "Dropout", "args": {"p": 0.1}},
        ],
        [(0.3, 0.9, 0.1), ()],
    ),
    "the default of half": (
        [32],
        [{"name": "fc", "type": "Linear", "args": {"out_features": 32}}, {"type": "Dropout"}],
        [(0.5,), ()],
    ),
    "alpha dropout, of units and of channels": (
        [4, 8],
        [
            {"name": "fc", "type": "Linear", "args": {"out_features": 8}},
            {"type": "SELU"},
            {"type": "AlphaDropout", "args": {"p": 0.8}},
            {"type": "FeatureAlphaDropout", "args": {"p": 0.6}},
            {"type": "Flatten"},
        ],
        [(0.8, 0.6), ()],
    ),
    "channels": (
        [1, 6, 6],
        [
            {"name": "conv", "type": "Conv2d", "args": {"out_channels": 4, "kernel_size": 3}},
            {"type": "Dropout2d", "args": {"p": 0.7}},
            {"type": "Flatten"},
        ],
        [(0.7,), ()],
    ),
    "within a transformer layer, attention's too": (
        [5, 8],
        [
            {
                "name": "block",
                "type": "TransformerEncoderLayer",
                "args": {"nhead": 2, "dim_feedforward": 16, "dropout": 0.6},
            },
            {"type": "Flatten"},
        ],
        [(0.6,), (0.6,), (0.6,), (0.6,), ()],
    ),
    "between recurrent layers": (
        [5, 8],
        [
            {
                "name": "rnn",
                "type": "LSTM",
                "args": {"hidden_size": 6, "num_layers": 2, "dropout": 0.8},
            },
            {"type": "LastStep"},
        ],
        [(0.8,), ()],
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_and_the_spec_agree(name: str) -> None:
    shape, layers, recorded = MODELS[name]
    spec = {"input": {"shape": shape}, "layers": [*layers, HEAD]}
    session = Session.open(PLAN, resolve(spec), None)
    before = session.measure()
    assert [layer.dropout for layer in before.layers] == recorded
    done = repaired(resolve(spec), [LOWER])
    assert done is not None
    expected = Session.open(PLAN, resolve(done.spec), None).measure()
    assert session.measure((LOWER,)) == expected
    lowered = [tuple(min(p, 0.25) for p in layer) for layer in recorded]
    assert [layer.dropout for layer in expected.layers] == lowered
    assert session.measure() == before


class Dropping(nn.Module):
    """Says its dropout in `forward`, where no module has it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(self.fc(x), p=0.75, training=True)


def test_files_are_lowered_too() -> None:
    plan = ProbePlan(inputs=(InputPlan((8,)),), batch_size=16, batches=1, seeds=1)
    session = Session.open(plan, None, saved(scripted(Dropping())))
    assert [layer.dropout for layer in session.measure().layers] == [(0.75,)]
    assert [layer.dropout for layer in session.measure((LOWER,)).layers] == [(0.25,)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "regularization", "dropout": 1.0}, "a probability below 1"),
        ({"kind": "regularization", "dropout": "0.1"}, "a probability below 1"),
        ({"kind": "regularization", "dropout": 0.9}, "no dropout was recorded"),
    ],
)
def test_what_cannot_be_done_is_refused(change: Spec, says: str) -> None:
    shape, layers, _ = MODELS["the default of half"]
    spec = {"input": {"shape": shape}, "layers": [*layers, HEAD]}
    with pytest.raises(ChangeRefused, match=says):
        Session.open(PLAN, resolve(spec), None).measure((change,))
