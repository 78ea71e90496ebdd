"""Specs built with torch: names, shapes, random numbers and the types torch.nn lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from service.domain.architecture import resolve
from service.probing.loaders.own_types import NoisyReLU
from service.probing.loaders.spec import SpecNetwork, build

DEV_CASES = Path(__file__).parents[1] / "cases" / "dev_cases.jsonl"
Spec = dict[str, Any]


def network(*layers: Spec, shape: tuple[int, ...], **sample: Any) -> SpecNetwork:
    return build(resolve({"input": {"shape": list(shape), **sample}, "layers": list(layers)}))


def linear(out: int, **fields: Any) -> Spec:
    return {"type": "Linear", "args": {"out_features": out}, **fields}


@pytest.mark.parametrize("line", DEV_CASES.read_text().splitlines(), ids=lambda line: line[8:16])
def test_every_dev_case_resolves_builds_and_runs(line: str) -> None:
    architecture = resolve(json.loads(line)["spec"])
    model = build(architecture)
    output = model(torch.randn(3, *architecture.inputs[0].shape))
    assert output.shape == (3, *architecture.layers[-1].output_shape)
    assert {name: tuple(value.shape) for name, value in model.named_parameters()} == {
        f"{layer.name}.{name}": shape
        for layer in architecture.layers
        for name, shape in layer.parameters.items()
    }


def test_parameters_are_named_by_the_layers_paths() -> None:
    block = [linear(6, name="fc"), {"name": "sum", "type": "Add", "inputs": ["fc", "input"]}]
    model = network(
        {"name": "body", "repeat": 2, "layers": block}, linear(2, name="head"), shape=(6,)
    )
    assert [name for name, _ in model.named_parameters()] == [
        "body.0.fc.weight", "body.0.fc.bias", "body.1.fc.weight", "body.1.fc.bias",
        "head.weight", "head.bias",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["train", "half", "forward", "type", "_layers", "0", "weight"])
def test_names_that_modules_use_themselves_are_fine(name: str) -> None:
    model = network(
        linear(3, name=name), {"name": f"{name}-2", "layers": [linear(2, name=name)]}, shape=(4,)
    )
    assert model.eval()(torch.randn(2, 4)).shape == (2, 2)
    assert f"{name}.weight" in dict(model.named_parameters())


def test_a_residual_block_computes_its_formula() -> None:
    model = network(
        linear(6, name="fc"),
        {"name": "act", "type": "Tanh"},
        {"type": "Add", "inputs": ["act", "input"]},
        shape=(6,),
    )
    x = torch.randn(4, 6)
    fc = dict(model.named_modules())["fc"]
    assert torch.equal(model(x), torch.tanh(fc(x)) + x)


def test_dead_branches_run_and_the_last_layer_is_the_output() -> None:
    model = network(linear(3, name="dead"), linear(2, inputs=["input"]), shape=(4,))
    assert model(torch.randn(5, 4)).shape == (5, 2)


def test_merges_compute_what_they_say() -> None:
    first = torch.randn(2, 3, 4)
    second = first.tanh()

    def merged(merge: Spec) -> Any:
        tanh = {"name": "b", "type": "Tanh"}
        return network(tanh, {**merge, "inputs": ["input", "b"]}, shape=(3, 4))(first)

    assert torch.equal(merged({"type": "Add"}), first + second)
    assert torch.equal(merged({"type": "Multiply"}), first * second)
    assert torch.equal(merged({"type": "Concat"}), torch.cat([first, second], 1))
    assert torch.equal(
        merged({"type": "Concat", "args": {"dim": -1}}), torch.cat([first, second], -1)
    )
    square = network({"type": "MatMul", "inputs": ["input", "input"]}, shape=(4, 4))
    x = torch.randn(2, 4, 4)
    assert torch.equal(square(x), x @ x)
    assert torch.equal(network({"type": "LastStep"}, shape=(3, 4))(first), first[:, -1])


@pytest.mark.parametrize(
    ("layers", "modules", "shape"),
    [
        (
            [linear(8), {"type": "ReLU"}, {"type": "BatchNorm1d"}, linear(3)],
            lambda: [nn.Linear(5, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 3)],
            (5,),
        ),
        (
            [{"type": "Conv2d", "args": {"out_channels": 4, "kernel_size": 3}},
             {"type": "PReLU"}, {"type": "Flatten"}, linear(3)],
            lambda: [nn.Conv2d(2, 4, 3), nn.PReLU(), nn.Flatten(), nn.Linear(64, 3)],
            (2, 6, 6),
        ),
        (
            [{"type": "TransformerEncoder", "args": {
                "encoder_layer": {"type": "TransformerEncoderLayer",
                                  "args": {"nhead": 2, "dim_feedforward": 8, "dropout": 0}},
                "num_layers": 2, "norm": {"type": "LayerNorm"}}}],
            lambda: [nn.TransformerEncoder(
                nn.TransformerEncoderLayer(4, 2, 8, dropout=0, batch_first=True), 2,
                norm=nn.LayerNorm(4), enable_nested_tensor=False)],
            (5, 4),
        ),
    ],
)  # fmt: skip
def test_default_initialization_draws_like_a_hand_written_sequential(
    layers: list[Spec], modules: Any, shape: tuple[int, ...]
) -> None:
    architecture = resolve({"input": {"shape": list(shape)}, "layers": layers})
    torch.manual_seed(3)
    model = build(architecture)
    after = torch.rand(1)
    torch.manual_seed(3)
    sequential = nn.Sequential(*modules())
    assert torch.equal(torch.rand(1), after)
    pairs = list(zip(model.parameters(), sequential.parameters(), strict=True))
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    x = torch.randn(3, *shape)
    assert torch.equal(model(x), sequential(x))


def test_a_recurrent_layer_passes_on_its_steps_batch_first() -> None:
    torch.manual_seed(1)
    model = network(
        {"type": "LSTM", "args": {"hidden_size": 4, "num_layers": 2}},
        {"type": "LastStep"},
        shape=(7, 3),
    )
    torch.manual_seed(1)
    lstm = nn.LSTM(3, 4, 2, batch_first=True)
    x = torch.randn(2, 7, 3)
    assert torch.equal(model(x), lstm(x)[0][:, -1])


def test_one_input_to_attention_is_query_key_and_value() -> None:
    torch.manual_seed(1)
    model = network({"type": "MultiheadAttention", "args": {"num_heads": 2}}, shape=(5, 4))
    torch.manual_seed(1)
    attention = nn.MultiheadAttention(4, 2, batch_first=True)
    x = torch.randn(2, 5, 4)
    assert torch.equal(model(x), attention(x, x, x)[0])


def test_init_functions_run_after_the_default_layer_by_layer() -> None:
    call = {"name": "xavier_normal_", "args": {"gain": 2.0}}
    torch.manual_seed(5)
    model = network(
        linear(4, init={"weight": call, "bias": {"name": "zeros_"}}), linear(3), shape=(6,)
    )
    torch.manual_seed(5)
    first = nn.Linear(6, 4)
    nn.init.xavier_normal_(first.weight, gain=2.0)
    nn.init.zeros_(first.bias)
    second = nn.Linear(4, 3)
    values = [value.detach() for value in model.parameters()]
    assert torch.equal(values[0], first.weight)
    assert torch.equal(values[1], torch.zeros(4))
    assert torch.equal(values[2], second.weight)


def test_the_forget_gate_opens_in_every_layer() -> None:
    gate = {"name": "forget_gate_", "args": {"val": 1}}
    model = network(
        {"name": "rnn", "type": "LSTM", "args": {"hidden_size": 3, "num_layers": 2},
         "init": {"bias": {"name": "zeros_"}, "bias_ih": gate}}, shape=(5, 2)
    )  # fmt: skip
    values = dict(model.named_parameters())
    for layer in (0, 1):
        bias = values[f"rnn.bias_ih_l{layer}"]
        assert torch.equal(bias[3:6], torch.ones(3))
        assert bool((bias[:3].abs() < 1).all())
        assert bool((values[f"rnn.bias_hh_l{layer}"] == 0).all())


def test_nothing_is_computed_in_place() -> None:
    relu = {"type": "ReLU", "args": {"inplace": True}}
    model = network(
        linear(4, name="fc"), relu, {"type": "Add", "inputs": ["fc", "layer1"]}, shape=(4,)
    )
    x = torch.randn(8, 4)
    fc = dict(model.named_modules())["fc"]
    assert torch.equal(model(x), fc(x) + torch.relu(fc(x)))


def test_integers_reach_the_embedding() -> None:
    layer = {"type": "Embedding", "args": {"num_embeddings": 9, "embedding_dim": 2}}
    model = network(layer, {"type": "Flatten"}, linear(3), shape=(5,), dtype="int64")
    assert model(torch.randint(0, 9, (4, 5))).shape == (4, 3)


def test_noisy_relu_adds_noise_of_the_stated_variance_in_training_only() -> None:
    torch.manual_seed(0)
    layer, x = NoisyReLU(), torch.full((200_000,), 2.0)
    # far from the kink max(0, ·) rarely cuts: rectified normal, mean 2, variance sigmoid(2) = 0.881
    noisy = layer(torch.cat([x + 8, x - 12]))
    high, low = noisy[:200_000], noisy[200_000:]
    assert float(high.mean()) == pytest.approx(10, abs=0.02)
    assert float(high.var()) == pytest.approx(1.0, abs=0.02)  # sigmoid(10)
    assert float(low.mean()) == pytest.approx(0, abs=1e-3)  # sigmoid(-10) leaves no noise
    middle = layer(torch.zeros(200_000))
    # half of N(0, 1/2): mean of max(0, z) = σ/√(2π)
    assert float(middle.mean()) == pytest.approx((0.5 / (2 * torch.pi)) ** 0.5, abs=5e-3)
    assert torch.equal(layer.eval()(x), x)


def test_noisy_relu_has_a_finite_gradient_everywhere() -> None:
    x = torch.tensor([-200.0, -1.0, 0.0, 1.0, 200.0], requires_grad=True)
    NoisyReLU()(x).sum().backward()
    assert x.grad is not None
    assert bool(((x.grad == 0) | (x.grad == 1)).all())
    assert (float(x.grad[0]), float(x.grad[-1])) == (0, 1)
