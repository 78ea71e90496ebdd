"""The source that is written builds the very network that was measured."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from ruff import find_ruff_bin
from torch import Tensor, nn

from service.domain.architecture import Architecture, resolve
from service.domain.expanded import expanded
from service.domain.layers import LAYER_TYPES
from service.probing.loaders import spec as loader
from service.source import pytorch_source
from tests.probing.test_layer_table import attempts
from tests.unit.domain.random_specs import REPEATABLE, Network, networks
from tests.unit.recommendation.remedy_cases import cnn, kaiming, mlp, normal, recurrent, repeated

CALLS = 4
"""Random calls of every layer type."""

ZEROS = {"name": "zeros_"}
ENCODER = {"type": "TransformerEncoderLayer", "args": {"nhead": 2, "dim_feedforward": 8}}
WHOLE: dict[str, dict[str, Any]] = {
    "plain": mlp(3, "ReLU", kaiming("relu")),
    "convolutional": cnn(2),
    "repeated residual block": repeated(3, normal(0.1)),
    "recurrent": recurrent("LSTM"),
    "forget gates and paths into composed layers": {
        "input": {"shape": [6, 8]},
        "layers": [
            {
                "name": "lstm",
                "type": "LSTM",
                "args": {"hidden_size": 8, "num_layers": 2, "bidirectional": True},
                "init": {
                    "weight_hh": {"name": "orthogonal_"},
                    "bias": ZEROS,
                    "bias_ih": {"name": "forget_gate_", "args": {"val": 2}},
                },
            },
            {
                "name": "encoder",
                "type": "TransformerEncoder",
                "args": {"encoder_layer": ENCODER, "num_layers": 2, "norm": {"type": "LayerNorm"}},
                "init": {"linear1.weight": {"name": "xavier_normal_"}, "norm1.bias": ZEROS},
            },
            {
                "name": "attention",
                "type": "MultiheadAttention",
                "args": {"num_heads": 2},
                "inputs": ["lstm", "encoder", "encoder"],
                "init": {"in_proj_weight": {"name": "xavier_uniform_"}, "out_proj.bias": ZEROS},
            },
            {"name": "joined", "type": "Concat", "args": {"dim": 2}, "inputs": ["lstm", "encoder"]},
            {"name": "gate", "type": "Multiply", "inputs": ["lstm", "attention", "encoder"]},
            {"name": "turned", "type": "Unflatten", "args": {"dim": 2, "unflattened_size": [16, 1]},
             "inputs": ["gate"]},
            {"name": "flat", "type": "Flatten", "args": {"start_dim": 2}},
            {"name": "sum", "type": "Add", "inputs": ["flat", "lstm"]},
            {"name": "last", "type": "LastStep", "inputs": ["joined"]},
            {"name": "noisy", "type": "NoisyReLU"},
            {"name": "x", "type": "Linear", "args": {"out_features": 4}},
            {"name": "inputs", "type": "Linear", "args": {"out_features": 4}},
            {"name": "inputs_", "type": "Add", "inputs": ["x", "inputs"]},
            {"name": "out", "type": "Add", "inputs": ["x", "inputs", "inputs_"]},
        ],
    },
}  # fmt: skip
"""Networks of many layers, by what they have that others have not."""


@pytest.mark.parametrize("name", WHOLE)
def test_same_seed_same_network(name: str) -> None:
    _check_same(resolve(WHOLE[name]), _source(WHOLE[name]))


@settings(REPEATABLE, max_examples=40)
@given(network=networks())
def test_random_networks(network: Network) -> None:
    _check_same(resolve(network.spec), _source(network.spec))


@pytest.mark.parametrize("name", LAYER_TYPES)
def test_every_layer_type(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.source.model.formatted", str)  # the layout is tested below
    specs = list(islice(_specs_of(name), CALLS))
    assert specs
    for document in specs:
        _check_same(resolve(document), _source(document))


def test_the_layout_is_what_ruff_writes(tmp_path: Path) -> None:
    long = {
        "name": "a_very_long_name_of_a_layer_" * 3,
        "type": "Linear",
        "args": {"out_features": 4},
    }
    chain = [long | {"name": f"{long['name']}{place}"} for place in range(3)]
    total = {"type": "Add", "inputs": [layer["name"] for layer in chain]}
    documents = [
        *WHOLE.values(),
        {"input": {"shape": [4]}, "layers": [*chain, total]},
        *(next(_specs_of(name)) for name in ("Conv2d", "TransformerDecoder", "LocalResponseNorm")),
    ]
    for place, document in enumerate(documents):
        (tmp_path / f"model_{place}.py").write_text(_source(document), encoding="utf-8")
    ruff = [find_ruff_bin()]
    _run([*ruff, "format", "--check", "--isolated", "--no-cache", str(tmp_path)])
    _run([*ruff, "check", "--isolated", "--no-cache", "--select", "F,I,E4,E7,E9,W", str(tmp_path)])


def test_statistics_of_the_initialization() -> None:
    """Without the service's own network beside it: what the spec says is what is drawn."""
    torch.manual_seed(3)
    model = _executed(_source(mlp(2, "ReLU", kaiming("relu"))))()
    for name in ("fc1", "fc2"):
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        assert float(layer.weight.detach().std()) == pytest.approx((2 / 64) ** 0.5, rel=0.05)
        assert not layer.bias.any()


def test_the_source_runs_by_itself(tmp_path: Path) -> None:
    """A process that has torch, and nothing of this project."""
    path = tmp_path / "repaired.py"
    lines = "import torch as t\nprint(tuple(RepairedModel()(t.zeros(5, 64)).shape))\n"
    path.write_text(_source(mlp(2, "Tanh")) + lines, encoding="utf-8")
    assert _run([sys.executable, "-I", str(path)]).strip() == "(5, 10)"


def _source(document: dict[str, Any]) -> str:
    return pytorch_source(expanded(resolve(document)))


def _specs_of(name: str) -> Iterator[dict[str, Any]]:
    """Networks of one layer of this type, all of whose inputs are the network's."""
    for _, args, inputs, verdict in attempts(name):
        if not isinstance(verdict, str) and len(set(inputs)) == 1 and not verdict.output.is_integer:
            given = {"shape": list(inputs[0].shape), "dtype": inputs[0].dtype}
            if inputs[0].is_integer:
                given["high"] = min(2, args.get("num_embeddings", 2))
            layer = {"type": name, "args": args, "inputs": ["input"] * len(inputs)}
            if must := LAYER_TYPES[name].must_init:
                layer["init"] = {parameter: {"name": "normal_"} for parameter in must}
            yield {"input": given, "layers": [layer]}


def _check_same(architecture: Architecture, source: str) -> None:
    """Parameters, buffers and outputs, number for number; then with foreign weights."""
    network = resolve(expanded(architecture))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about odd arguments
        torch.manual_seed(1)
        service = loader.build(network)
        torch.manual_seed(1)
        own = _executed(source)()
        assert _same(service.state_dict(), own.state_dict())
        x = _inputs(network)
        assert _alike(_seeded(service, x), _seeded(own, x))
        torch.manual_seed(2)
        other = loader.build(network)
        own.load_state_dict(other.state_dict())
        assert _alike(_seeded(other.eval(), x), _seeded(own.eval(), x))


def _executed(source: str) -> type[nn.Module]:
    names: dict[str, Any] = {"__name__": "repaired"}
    exec(compile(source, "repaired.py", "exec"), names)
    model: type[nn.Module] = names["RepairedModel"]
    return model


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(_alike(one[name], other[name]) for name in one)


def _seeded(module: nn.Module, x: tuple[Tensor, ...]) -> Tensor:
    torch.manual_seed(4)
    output: Tensor = module(*x)
    return output


def _alike(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def _inputs(architecture: Architecture) -> tuple[Tensor, ...]:
    return tuple(
        torch.randint(one.high or 1, (4, *one.shape), dtype=getattr(torch, one.dtype))
        if one.dtype.startswith("int")
        else torch.randn(4, *one.shape)
        for one in architecture.inputs
    )


def _run(command: list[str]) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout
