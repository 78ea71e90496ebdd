"""Repaired spec, patch and exported weights are all the model that was measured."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import jsonpatch
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load
from torch import Tensor

from service.domain.architecture import Architecture, resolve
from service.domain.plain_names import MODULE_ATTRIBUTES, plain_names
from service.domain.probe_plan import ProbePlan
from service.domain.state_dict import renamed, tensor_names
from service.probing.loaders import spec
from service.probing.session import Session
from service.recommendation.repaired import repaired
from tests.unit.domain.random_specs import REPEATABLE, Network, networks
from tests.unit.recommendation.random_changes import initializations, normalizations
from tests.unit.recommendation.remedy_cases import cnn, mlp, recurrent, repeated


def test_no_layer_is_called_like_what_a_module_is_used_for() -> None:
    # Asked of a torch of its own: libraries add attributes to nn.Module when they are imported.
    ask = "from torch import nn; print(*dir(nn.Module()))"
    told = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, check=True
    ).stdout
    public = {name for name in told.split() if not name.startswith("_")}
    assert public <= MODULE_ATTRIBUTES
    assert not public & set(plain_names(public).values())


@settings(REPEATABLE, max_examples=40)
@given(network=networks(), data=st.data())
def test_patched_and_written_out_are_built_alike(network: Network, data: st.DataObject) -> None:
    before = resolve(network.spec)
    changes = [data.draw(normalizations(before)), data.draw(initializations(before))]
    done = repaired(before, changes)
    assert done is not None
    after = resolve(jsonpatch.apply_patch(network.spec, list(done.patch)))
    one, other = _drawn(after), _drawn(resolve(done.spec))
    for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    x = _inputs(after)
    torch.manual_seed(1)
    ours = one(*x)
    torch.manual_seed(1)
    assert torch.equal(ours, other(*x)) or bool(ours.isnan().any())


def _drawn(architecture: Architecture) -> spec.SpecNetwork:
    torch.manual_seed(0)
    return spec.build(architecture)


def _inputs(architecture: Architecture) -> tuple[Tensor, ...]:
    return tuple(
        torch.randint(one.high or 1, (3, *one.shape), dtype=getattr(torch, one.dtype))
        if one.dtype.startswith("int")
        else torch.randn(3, *one.shape)
        for one in architecture.inputs
    )


def _norm(kind: str, **args: Any) -> dict[str, Any]:
    return {"type": kind, "args": args}


def _draws(*names: str) -> dict[str, Any]:
    return {
        "kind": "initializer",
        "parameters": [
            {"parameter": name, "initializer": "orthogonal_", "args": {"gain": 1.5}}
            for name in names
        ],
    }


REPAIRS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "another activation, drawn anew": (
        mlp(3, "Sigmoid"),
        [
            {
                "kind": "activation",
                "layers": ["fc1", "fc2", "fc3"],
                "activation": "ReLU",
                "replaces": "Sigmoid",
                "parameters": _draws("fc1.weight", "fc2.weight")["parameters"],
            }
        ],
    ),
    "BatchNorm, then another activation": (
        mlp(3, "Tanh"),
        [
            {
                "kind": "normalization",
                "layers": [
                    {"after": f"fc{number}"} | _norm("BatchNorm1d", num_features=64)
                    for number in (1, 2)
                ],
            },
            {
                "kind": "activation",
                "layers": ["fc1", "fc2", "fc3"],
                "activation": "ELU",
                "replaces": "Tanh",
            },
        ],
    ),
    "GroupNorm in a convolutional net": (
        cnn(2),
        [
            {
                "kind": "normalization",
                "layers": [{"after": "conv1"} | _norm("GroupNorm", num_groups=4, num_channels=8)],
            }
        ],
    ),
    "one repetition of a residual body": (
        repeated(3),
        [
            _draws("body.1.fc.weight"),
            {
                "kind": "normalization",
                "layers": [{"after": "body.2.fc"} | _norm("LayerNorm", normalized_shape=64)],
            },
        ],
    ),
    "skips": (mlp(4, "Tanh"), [{"kind": "residual", "layers": ["fc2", "fc3"], "parameters": []}]),
    "a normalized input": (
        mlp(2, "Tanh"),
        [{"kind": "input_scaling", "normalization": _norm("BatchNorm1d", num_features=64)}],
    ),
    "recurrent weights": (recurrent("LSTM"), [_draws("rnn.weight_hh_l0", "rnn.weight_hh_l1")]),
}


@pytest.mark.parametrize("name", REPAIRS)
def test_exported_weights_fit_the_repaired_spec(name: str) -> None:
    document, changes = REPAIRS[name]
    before = resolve(document)
    session = Session.open(ProbePlan(batch_size=8, batches=1, seeds=1), before, None)
    done = repaired(before, changes)
    assert done is not None
    content = renamed(_exported(session, changes), done.names)
    rebuilt = spec.build(resolve(done.spec))
    assert tensor_names(content) == set(rebuilt.state_dict())
    rebuilt.load_state_dict(load(content))
    changed = session.changed(tuple(changes))
    changed.reset()
    x = torch.randn(8, *before.inputs[0].shape)
    assert torch.equal(rebuilt(x), changed.forward(x))


def _exported(session: Session, changes: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    session.export(file, tuple(changes))
    return file.getvalue()
