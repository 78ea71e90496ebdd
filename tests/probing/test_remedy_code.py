"""The code that a recommendation gives runs on a real model and does what its change says."""

from __future__ import annotations

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
        (mlp(12, "Sigmoid", normal(0.01)), {"normalization", "activation"}),
        (mlp(12, "GELU"), {"initializer", "normalization"}),
        (cnn(6), {"initializer", "normalization", "activation"}),
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
        for p in r.change.get("parameters", ()):
            parameter = model.get_parameter(p["parameter"])
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


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (mlp(20, "ReLU"), "initializer"),
        (mlp(20, "GELU"), "initializer"),
        (mlp(20, "Tanh", normal(0.01)), "initializer"),
        (mlp(20, "Sigmoid"), "activation"),
        (cnn(8), "activation"),
        (mlp(20, "ReLU"), "normalization"),
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
