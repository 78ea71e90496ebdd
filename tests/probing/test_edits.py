"""An edit changes what it names and nothing else; none changes nothing; all formats alike."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import Tensor, nn

from service.domain.architecture import resolve
from service.domain.errors import ChangeRefused
from service.domain.measurements import Measurements
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing.edits import Redraw
from service.probing.session import Session
from tests.probing.models import LastStepRNN, mlp, resnet, saved, scripted, transformer

DEPTH = 6


def spec(activation: str = "Sigmoid", norm: str | None = None) -> dict[str, Any]:
    layers: list[dict[str, Any]] = []
    for index in range(DEPTH):
        layers.append({"name": f"fc{index}", "type": "Linear", "args": {"out_features": 32}})
        if norm:
            layers.append({"name": f"norm{index}", "type": norm})
        layers.append({"name": f"act{index}", "type": activation})
    layers.append({"name": "head", "type": "Linear", "args": {"out_features": 10}})
    return {"input": {"shape": [64]}, "layers": layers}


PLAN = ProbePlan(batch_size=16, batches=2, seeds=2)
HIDDEN = tuple(f"fc{index}" for index in range(DEPTH))
TO_TANH = {"kind": "activation", "layers": HIDDEN, "activation": "Tanh"}
NORMALIZE = {
    "kind": "normalization",
    "layers": [
        {"after": name, "type": "BatchNorm1d", "args": {"num_features": 32}} for name in HIDDEN
    ],
}
ORTHOGONAL = {
    "kind": "initializer",
    "parameters": [
        {"parameter": "fc2.weight", "initializer": "orthogonal_", "args": {"gain": 2.0}}
    ],
}


def opened(document: dict[str, Any]) -> Session:
    return Session.open(PLAN, resolve(document), None)


def gains(measured: Measurements) -> list[float | None]:
    return [layer.gradient.gain for layer in measured.layers]


def test_another_activation_is_what_a_spec_with_it_measures() -> None:
    session = opened(spec("Sigmoid"))
    before = session.measure()
    changed = session.measure((TO_TANH,))
    expected = opened(spec("Tanh")).measure()
    assert gains(changed) == pytest.approx(gains(expected), rel=1e-6)
    assert [layer.nonlinearity for layer in changed.layers[:DEPTH]] == ["tanh"] * DEPTH
    assert changed.model.loss_at_start == pytest.approx(expected.model.loss_at_start, rel=1e-6)
    assert session.measure() == before


def test_a_normalization_is_what_a_spec_with_it_measures() -> None:
    changed = opened(spec("ReLU")).measure((NORMALIZE,))
    expected = opened(spec("ReLU", "BatchNorm1d")).measure()
    assert gains(changed) == pytest.approx(gains(expected), rel=1e-5)
    assert [layer.normalization for layer in changed.layers[:DEPTH]] == ["batch_norm"] * DEPTH


@pytest.mark.parametrize(
    "activation",
    ["Softsign", "Tanhshrink", "SELU", "GELU", "Hardtanh", "LogSigmoid", "PReLU", "LeakyReLU"],
)
def test_any_activation_can_go(activation: str) -> None:
    changed = opened(spec(activation)).measure((TO_TANH,))
    expected = opened(spec("Tanh")).measure()
    assert gains(changed) == pytest.approx(gains(expected), rel=1e-6)


def test_an_initialization_changes_its_parameter_alone() -> None:
    session = opened(spec("Tanh"))
    start = {name: value.clone() for name, value in session.parameters.items()}
    file, plain = io.BytesIO(), io.BytesIO()
    session.export(file, (ORTHOGONAL,))
    session.export(plain)
    changed, untouched = load(file.getvalue()), load(plain.getvalue())
    product = changed["fc2.weight"] @ changed["fc2.weight"].T
    assert torch.allclose(product, 4.0 * torch.eye(32), atol=1e-5)
    for name, value in start.items():
        assert torch.equal(untouched[name], value)
        assert torch.equal(changed[name], value) == (name != "fc2.weight")
        assert torch.equal(session.parameters[name], value)


def test_a_forget_gate_clears_the_other_gates() -> None:
    bias = torch.full((8,), -6.0)
    Redraw("lstm.bias_ih_l0", "forget_gate_", {"val": 1.0})(bias)
    assert bias.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


def test_every_seed_is_drawn_anew() -> None:
    measured = opened(spec("Tanh")).measure((ORTHOGONAL,))
    low, high = measured.layers[2].spread["gradient.gain"]
    assert low < high
    assert measured.layers[2].parameters[-1].rms == pytest.approx(2.0 / 32**0.5, rel=1e-5)


def test_changes_add_up_and_are_taken_back() -> None:
    session = opened(spec("Sigmoid"))
    before = session.measure()
    both = session.measure((TO_TANH, NORMALIZE))
    assert {layer.nonlinearity for layer in both.layers[:DEPTH]} == {"tanh"}
    assert {layer.normalization for layer in both.layers[:DEPTH]} == {"batch_norm"}
    assert session.measure() == before


@pytest.mark.parametrize(
    ("make", "shape", "change"),
    [
        (lambda: mlp(3, 16, nn.Sigmoid), (64,),
         {"kind": "activation", "layers": ["0", "2"], "activation": "ReLU"}),
        (lambda: resnet(8, 2), (3, 8, 8),
         {"kind": "activation", "layers": ["3.conv1", "3.conv2"], "activation": "GELU"}),
        (lambda: LastStepRNN("LSTM"), (5, 8),
         {"kind": "initializer", "parameters": [
             {"parameter": "rnn.weight_hh_l0", "initializer": "orthogonal_"}]}),
        (transformer, (6, 16),
         {"kind": "activation", "layers": ["0.layers.0.linear1"], "activation": "SiLU"}),
        (lambda: mlp(3, 64, nn.Tanh), (64,),
         {"kind": "residual", "layers": ["2", "4"], "branch_scale": 0.5, "parameters": []}),
        (transformer, (6, 16),
         {"kind": "normalization", "layers": [
             {"after": "0.layers.0.linear1", "type": "LayerNorm",
              "args": {"normalized_shape": 32}}]}),
    ],
)  # fmt: skip
def test_files_are_edited_too(
    make: Callable[[], nn.Module], shape: tuple[int, ...], change: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    plan = ProbePlan(inputs=(InputPlan(shape),), batch_size=8, batches=2, seeds=1, trial_steps=3)
    session = Session.open(plan, None, saved(scripted(make())))
    before = session.measure()
    changed = session.measure((change,))
    assert gains(changed) != gains(before)
    assert [layer.name for layer in changed.layers] == [layer.name for layer in before.layers]
    session.trial((change,))
    assert session.measure() == before


def test_no_change_changes_nothing() -> None:
    session = opened(spec("ELU"))
    assert session.measure(()) == session.measure()


def test_a_skip_adds_the_input_to_the_branch() -> None:
    session = opened(spec("Tanh"))
    change = {"kind": "residual", "layers": ["fc3"]}
    edited = session.changed((change,))
    (x,) = session.feed.inputs(session.batch_size, 0, 0)
    weights = session.parameters

    def layer(name: str, value: Tensor) -> Tensor:
        return torch.tanh(value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])

    value = x
    for name in HIDDEN:
        branch = layer(name, value)
        value = value + branch if name == "fc3" else branch
    expected = value @ weights["head.weight"].T + weights["head.bias"]
    assert torch.allclose(edited.forward(x), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "hope"}, "no edit of the model"),
        ({"kind": "clipping"}, "max_norm is a number > 0"),
        ({"kind": "activation", "layers": ["fc9"], "activation": "ReLU"}, "no layer 'fc9'"),
        ({"kind": "activation", "layers": ["head"], "activation": "ReLU"}, "no activation"),
        ({"kind": "activation", "layers": ["fc1"], "activation": "Linear"}, "no activation of"),
        ({"kind": "initializer", "parameters": [{"parameter": "fc1.w"}]}, "no parameter 'fc1.w'"),
        ({"kind": "initializer", "parameters": [
            {"parameter": "fc1.weight", "initializer": "system"}]}, "no function 'system'"),
        ({"kind": "initializer", "parameters": [
            {"parameter": "fc1.bias", "initializer": "orthogonal_"}]}, "2 or more dimensions"),
        ({"kind": "normalization", "layers": [{"after": "fc1", "type": "Linear"}]}, "no norm"),
        ({"kind": "normalization", "layers": [
            {"after": "fc1", "type": "BatchNorm1d", "args": {"num_features": 7}}]}, "does not run"),
        ({"kind": "residual", "layers": ["fc0"]}, "does not keep the shape"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_and_the_session_goes_on(
    change: dict[str, Any], says: str
) -> None:
    session = opened(spec("Tanh"))
    before = session.measure()
    with pytest.raises(ChangeRefused, match=says):
        session.measure((change,))
    assert session.measure() == before
