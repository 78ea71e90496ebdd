"""The code that a recommendation gives runs on a real model and does what its change says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from service.domain.architecture import resolve
from service.domain.findings import Diagnosis
from service.domain.probe_plan import ProbePlan
from service.domain.recommendations import Recommendation
from service.domain.request import ALL_KINDS
from service.probing.session import Session
from service.recommendation import recommend
from tests.unit.recommendation.remedy_cases import (
    cnn,
    diagnosis,
    measured,
    mlp,
    normal,
    patched,
    recurrent,
    repeated,
)

Spec = dict[str, Any]
PLAN = ProbePlan(batch_size=64, batches=1, seeds=2, trial_steps=0)
MATRIX = 2


def session(spec: Spec) -> Session:
    return Session.open(PLAN, resolve(spec), None)


def advice(spec: Spec, found: Diagnosis, *, with_spec: bool = True) -> tuple[Recommendation, ...]:
    return recommend(
        found,
        session(spec).measure(),
        architecture=resolve(spec) if with_spec else None,
        batch_size=64,
        allowed_changes=ALL_KINDS,
    )


def plain(spec: Spec) -> nn.Sequential:
    """The spec's own chain as anyone would write it, names kept."""
    model = nn.Sequential()
    for node in resolve(spec).layers:
        model.add_module(node.name, getattr(nn, node.type)(**node.args))
    return model


def backward(model: nn.Module, inputs: torch.Tensor) -> None:
    nn.functional.cross_entropy(model(inputs), torch.arange(len(inputs)) % 10).backward()


VANISHING = diagnosis("vanishing_gradient")


@pytest.mark.parametrize("with_spec", [True, False])
@pytest.mark.parametrize(
    ("spec", "kinds"),
    [
        (mlp(12, "Sigmoid", normal(0.01)), {"normalization", "activation", "residual"}),
        (mlp(12, "GELU"), {"initializer", "normalization", "residual"}),
        (cnn(6), {"initializer", "normalization", "activation", "residual"}),
    ],
    ids=["mlp-sigmoid", "mlp-gelu", "cnn-sigmoid"],
)
def test_code_runs(spec: Spec, kinds: set[str], with_spec: bool) -> None:
    offered = advice(spec, VANISHING, with_spec=with_spec)
    assert {r.kind for r in offered} == kinds | {"clipping"}
    inputs = torch.randn(20, *spec["input"]["shape"])
    for r in offered:
        torch.manual_seed(0)
        model = plain(spec)
        backward(model, inputs)
        exec(compile(r.code, r.id, "exec"), {"model": model, "nn": nn})
        backward(model, inputs)
        if r.kind == "residual" and with_spec:
            assert sum(type(m).__name__ == "Skip" for m in model.modules()) == len(r.layers)
        for p in r.change.get("parameters", ()):
            owner, _, leaf = p["parameter"].rpartition(".")
            module = model.get_submodule(owner)  # a skip holds the weights it goes around
            first = "0." if type(module).__name__ == "Skip" else ""
            parameter = module.get_parameter(first + leaf)
            if p["gain"] is not None and parameter.ndim >= MATRIX:
                measured = parameter.square().mean().sqrt() * parameter[0].numel() ** 0.5
                assert measured.item() == pytest.approx(p["gain"], rel=0.25)
        if r.kind == "activation":
            assert not any(isinstance(m, nn.Sigmoid) for m in model.modules())
        if r.kind == "normalization":
            added = [m for m in model.modules() if type(m).__name__ == r.change["normalization"]]
            assert len(added) == len(r.layers)


def test_clipping_code_clips() -> None:
    spec = mlp(2, "ReLU")
    (clip,) = advice(spec, diagnosis())
    model = plain(spec)
    backward(model, 1e4 * torch.randn(20, 64))
    exec(compile(clip.code, "r1", "exec"), {"model": model, "nn": nn})
    total = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    assert total.item() == pytest.approx(clip.change["max_norm"], rel=1e-3)


def test_recurrent_code() -> None:
    found = diagnosis("fading_memory", layers=("rnn",))
    first, *_ = advice(recurrent("LSTM"), found)
    model = nn.Module()
    model.add_module("rnn", nn.LSTM(8, 32, 2, batch_first=True))
    exec(compile(first.code, "r1", "exec"), {"model": model, "nn": nn})
    weight = model.get_parameter("rnn.weight_hh_l1").detach()
    torch.testing.assert_close(weight.T @ weight, torch.eye(32), atol=1e-5, rtol=0)
    forget = model.get_parameter("rnn.bias_ih_l1").detach()[32:64]
    torch.testing.assert_close(forget, torch.ones(32))


@pytest.mark.parametrize(("kind", "new"), [("RNN", "GRU"), ("RNN", "LSTM"), ("GRU", "LSTM")])
def test_code_of_another_cell(kind: str, new: str) -> None:
    offered = advice(recurrent(kind), diagnosis("fading_memory", layers=("rnn",)))
    (one,) = (r for r in offered if r.change.get("cell") == new)
    model = nn.Module()
    model.add_module("rnn", getattr(nn, kind)(8, 32, 2, batch_first=True))
    exec(compile(one.code, "r1", "exec"), {"model": model, "nn": nn})
    cell = model.get_submodule("rnn")
    assert type(cell).__name__ == new
    assert cell(torch.randn(3, 5, 8))[0].shape == (3, 5, 32)
    assert one.patch is not None
    (node, *_) = patched(recurrent(kind), one.patch).layers
    assert node.type == new
    assert {f"rnn.{key}": shape for key, shape in node.parameters.items()} == {
        f"rnn.{name}": tuple(p.shape) for name, p in cell.named_parameters()
    }


def test_code_that_pre_trains() -> None:
    spec = mlp(4, "Tanh")
    (one,) = recommend(
        VANISHING,
        session(spec).measure(),
        architecture=resolve(spec),
        batch_size=64,
        allowed_changes=("pretraining",),
    )
    torch.manual_seed(0)
    model = plain(spec)
    x = torch.randn(200, 64)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    exec(compile(one.code, "r1", "exec"), {"model": model, "nn": nn, "x": x})
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == name.startswith("head")


def test_code_that_standardizes() -> None:
    found = diagnosis("unscaled_input")
    spread = replace(found.findings[0], evidence={"kind": "spread", "input": 0})
    rows = 5.0 + torch.randn(200, 64) * torch.logspace(-2, 2, 64)
    offered = recommend(
        replace(found, findings=(spread,)),
        measured(resolve(mlp(2, "ReLU"))),
        architecture=resolve(mlp(2, "ReLU")),
        batch_size=64,
        allowed_changes=("input_scaling",),
    )
    names = {"x": rows}
    exec(compile(offered[0].code, "r1", "exec"), names)
    torch.testing.assert_close(names["x"].mean(0), torch.zeros(64), atol=1e-3, rtol=0)
    torch.testing.assert_close(names["x"].std(0), torch.ones(64), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (mlp(20, "ReLU"), "initializer"),
        (mlp(20, "GELU"), "initializer"),
        (mlp(20, "Tanh", normal(0.01)), "initializer"),
        (mlp(20, "Sigmoid"), "activation"),
        (cnn(8), "activation"),
        (mlp(20, "ReLU"), "normalization"),
        (mlp(20, "ReLU"), "residual"),
        (mlp(20, "Tanh", normal(0.01)), "residual"),
    ],
    ids=lambda v: v if isinstance(v, str) else v["layers"][1]["type"],
)
def test_the_patch_brings_the_gradient_back(spec: Spec, kind: str) -> None:
    """Of the gradient under 1e-3 arrived at the first layer, and now 0.1 to 50 times it."""
    before = session(spec).measure()
    (offered,) = (r for r in advice(spec, VANISHING) if r.kind == kind)
    assert offered.patch is not None
    after = Session.open(PLAN, patched(spec, offered.patch), None).measure()
    assert before.model.total_gain is not None
    assert after.model.total_gain is not None
    assert before.model.total_gain < 1e-3
    assert 0.1 < after.model.total_gain < 50


def test_the_patch_calms_a_residual_stack() -> None:
    init = {"weight": {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}}
    spec = repeated(20, init)
    (offered, *_) = advice(spec, diagnosis("exploding_gradient"))
    assert offered.patch is not None
    before = session(spec).measure().model.total_gain
    after = Session.open(PLAN, patched(spec, offered.patch), None).measure().model.total_gain
    assert before is not None
    assert after is not None
    assert before > 100
    assert after < 5


def test_dropout_code_lowers_every_kind() -> None:
    spec = mlp(3, "ReLU", dropout=0.9)
    (less,) = (r for r in advice(spec, diagnosis("drowned_signal")) if r.kind == "regularization")
    model = plain(spec)
    attention, rnn = nn.MultiheadAttention(8, 2, dropout=0.8), nn.LSTM(8, 8, 2, dropout=0.05)
    model.add_module("attention", attention)
    model.add_module("rnn", rnn)
    exec(compile(less.code, "r1", "exec"), {"model": model, "nn": nn})
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.2] * 3
    assert (attention.dropout, rnn.dropout) == (0.2, 0.05)
