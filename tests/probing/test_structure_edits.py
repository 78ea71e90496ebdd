"""Skips, other cells, a normalized input: what is measured is what the repaired spec measures."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import nn

from service.domain.architecture import resolve
from service.domain.errors import ChangeRefused
from service.domain.measurements import Measurements
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing.session import Session
from service.recommendation.repaired import repaired
from tests.probing.models import LastStepRNN, saved, scripted

PLAN = ProbePlan(batch_size=16, batches=2, seeds=2)
Spec = dict[str, Any]
MATRIX = 2
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def stack(depth: int = 5, norm: str | None = None) -> Spec:
    layers: list[Spec] = []
    for index in range(depth):
        layers.append({"name": f"fc{index}", "type": "Linear", "args": {"out_features": 32}})
        if norm:
            layers.append({"name": f"norm{index}", "type": norm})
        layers.append({"name": f"act{index}", "type": "Tanh"})
    layers.append({"name": "head", "type": "Linear", "args": {"out_features": 10}})
    return {"input": {"shape": [32]}, "layers": layers}


def sequence(cell: str, **args: Any) -> Spec:
    return {
        "input": {"shape": [12, 5]},
        "layers": [
            {"name": "rnn", "type": cell, "args": {"hidden_size": 6, **args}},
            {"name": "last", "type": "LastStep"},
            {"name": "head", "type": "Linear", "args": {"out_features": 10}},
        ],
    }


def all_drawn(spec: Spec) -> list[Spec]:
    """Draws for every parameter that do not depend on chance."""
    return [
        {"parameter": f"{node.name}.{key}", "initializer": "eye_", "args": {}}
        if len(shape) == MATRIX
        else {"parameter": f"{node.name}.{key}", "initializer": "constant_", "args": {"val": 0.1}}
        for node in resolve(spec).layers
        for key, shape in node.parameters.items()
        if node.type not in {"BatchNorm1d", "LayerNorm"}
    ]


def opened(spec: Spec) -> Session:
    return Session.open(PLAN, resolve(spec), None)


def numbers(measured: Measurements) -> list[Any]:
    return [
        (layer.op, layer.normalization, layer.residual, layer.gradient.gain, layer.activation.rms)
        for layer in measured.layers
    ]


def agree(spec: Spec, change: Mapping[str, Any]) -> None:
    """The change on the recorded graph, and on the spec, both without chance."""
    drawn = {"kind": "initializer", "parameters": all_drawn(spec)}
    session = opened(spec)
    before = session.measure()
    done = repaired(resolve(spec), [drawn, change])
    assert done is not None
    changed = session.measure((drawn, change))
    expected = opened(done.spec).measure()
    for here, there in zip(numbers(changed), numbers(expected), strict=True):
        assert here[:3] == there[:3]
        assert here[3:] == pytest.approx(there[3:], rel=1e-4)
    assert session.measure() == before


@pytest.mark.parametrize("norm", [None, "BatchNorm1d", "LayerNorm"])
@pytest.mark.parametrize("layers", [["fc1"], ["fc1", "fc2", "fc3"], ["fc0", "fc4"]])
def test_skips(norm: str | None, layers: list[str]) -> None:
    agree(stack(norm=norm), {"kind": "residual", "layers": layers, "parameters": []})


def test_a_skip_around_several_layers() -> None:
    change = {"kind": "residual", "layers": ["fc3"], "begins": {"fc3": "fc1"}, "parameters": []}
    agree(stack(), change)


@pytest.mark.parametrize("args", [{}, {"affine": False}])
def test_an_input_is_normalized(args: Spec) -> None:
    normalization = {"type": "BatchNorm1d", "args": {"num_features": 32, **args}}
    agree(stack(), {"kind": "input_scaling", "normalization": normalization})


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("old", "new"), [("RNN", "LSTM"), ("RNN", "GRU"), ("GRU", "LSTM")])
def test_cells_are_exchanged(old: str, new: str, layers: int, bidirectional: bool) -> None:
    spec = sequence(old, num_layers=layers, bidirectional=bidirectional)
    after = sequence(new, num_layers=layers, bidirectional=bidirectional)
    change = exchange(new, num_layers=layers, bidirectional=bidirectional)
    change["parameters"] = [d for d in all_drawn(after) if d["parameter"].startswith("rnn")]
    heads = [d for d in all_drawn(after) if d["parameter"].startswith("head")]
    session = opened(spec)
    before = session.measure()
    changed = session.measure(({"kind": "initializer", "parameters": heads}, change))
    done = repaired(resolve(spec), [{"kind": "initializer", "parameters": heads}, change])
    assert done is not None
    expected = opened(done.spec).measure()
    assert [layer.name for layer in changed.layers] == ["rnn", "head"]
    for here, there in zip(numbers(changed), numbers(expected), strict=True):
        assert here[:3] == there[:3]
        assert here[3:] == pytest.approx(there[3:], rel=1e-4)
    here, there = changed.layers[0].time_steps, expected.layers[0].time_steps
    assert here is not None
    assert there is not None
    assert here.memory == pytest.approx(there.memory, rel=1e-4)
    assert session.measure() == before


def exchange(new: str, **args: Any) -> Spec:
    full = {"input_size": 5, "hidden_size": 6, **args}
    return {
        "kind": "recurrent_cell",
        "layers": ["rnn"],
        "cell": new,
        "cell_args": {"rnn": full},
        "parameters": [],
    }


def test_an_exchanged_cell_leaves_the_rest_as_it_was() -> None:
    session = opened(sequence("RNN"))
    start = {name: value.clone() for name, value in session.parameters.items()}
    file = io.BytesIO()
    session.export(file, (exchange("LSTM"),))
    changed = load(file.getvalue())
    assert changed.keys() == start.keys()
    for name, value in start.items():
        if name.startswith("head"):
            assert torch.equal(changed[name], value)
        else:
            assert changed[name].shape[0] == GATES["LSTM"] * value.shape[0]


def test_every_seed_draws_its_own_cell() -> None:
    measured = opened(sequence("RNN")).measure((exchange("GRU"),))
    low, high = measured.layers[0].spread["gradient.gain"]
    assert low < high


def test_cells_of_files_are_exchanged_too() -> None:
    torch.manual_seed(0)
    plan = ProbePlan(inputs=(InputPlan((12, 8)),), batch_size=8, batches=2, seeds=1, trial_steps=3)
    session = Session.open(plan, None, saved(scripted(LastStepRNN("GRU"))))
    before = session.measure()
    hidden = next(p.shape[1] for p in before.layers[0].parameters if "weight_hh" in p.name)
    change = exchange("LSTM") | {"cell_args": {"rnn": {"input_size": 8, "hidden_size": hidden}}}
    changed = session.measure((change,))
    assert [layer.op for layer in changed.layers] == ["lstm", *[x.op for x in before.layers[1:]]]
    session.trial((change,))
    assert session.measure() == before


class FinalState(nn.Module):
    """Reads the state after the last step, not the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(5, 6, batch_first=True)
        self.head = nn.Linear(6, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs, state = self.rnn(x)
        answer: torch.Tensor = self.head(state[0] + outputs[:, -1])
        return answer


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (exchange("LSTM"), "more than the outputs"),
        (exchange("Linear"), "no recurrent layer of torch.nn"),
        (exchange("LSTM", proj_size=3), "takes no 'proj_size'"),
        (exchange("LSTM") | {"layers": ["head"]}, "no recurrent layer over"),
        ({"kind": "input_scaling", "input": 1, "normalization": {"type": "LayerNorm"}},
         "no input 1"),
        ({"kind": "input_scaling", "normalization": {"type": "Linear"}}, "no normalization"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(change: Spec, says: str) -> None:
    plan = ProbePlan(inputs=(InputPlan((12, 5)),), batch_size=8, batches=1, seeds=1)
    session = Session.open(plan, None, saved(scripted(FinalState())))
    before = session.measure()
    with pytest.raises(ChangeRefused, match=says):
        session.measure((change,))
    assert session.measure() == before
