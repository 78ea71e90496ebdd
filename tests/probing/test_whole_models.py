"""Several inputs, shared layers, parameters, masks and computed weights: built as by hand in torch,
and carried through measuring, training, editing and the repaired files."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from benchmarks.score import report_on
from service.domain.architecture import resolve
from service.domain.expanded import expanded
from service.domain.probe_plan import ProbePlan
from service.domain.state_dict import renamed, tensor_names
from service.probing.loaders.spec import SpecNetwork, build
from service.probing.session import Session
from service.recommendation.repaired import repaired
from service.source import pytorch_source

Spec = dict[str, Any]
PLAN = ProbePlan(batch_size=8, batches=1, seeds=1, trial_steps=2)
HE = {"weight": {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}}
SMALL = {"weight": {"name": "normal_", "args": {"std": 0.02}}}


def linear(out: int, **fields: Any) -> Spec:
    return {"type": "Linear", "args": {"out_features": out}, **fields}


def parameter(name: str, *size: int) -> Spec:
    return {"name": name, "type": "Parameter", "args": {"size": [*size]}, "init": SMALL}


NETWORKS: dict[str, Spec] = {
    "two inputs": {
        "input": [
            {"name": "image", "shape": [1, 8, 8]},
            {"name": "words", "shape": [5], "dtype": "int64", "high": 7},
        ],
        "layers": [
            {"name": "conv", "type": "Conv2d", "args": {"out_channels": 4, "kernel_size": 3},
             "inputs": ["image"]},
            {"type": "ReLU"},
            {"name": "seen", "type": "Flatten"},
            {"name": "table", "type": "Embedding",
             "args": {"num_embeddings": 7, "embedding_dim": 6}, "inputs": ["words"]},
            {"name": "gru", "type": "GRU", "args": {"hidden_size": 6}},
            {"name": "read", "type": "LastStep"},
            {"type": "Concat", "inputs": ["seen", "read"]},
            linear(10, name="head"),
        ],
    },
    "siamese": {
        "input": [{"name": "left", "shape": [12]}, {"name": "right", "shape": [12]}],
        "layers": [
            linear(12, name="fc", init=HE),
            {"name": "one", "type": "ReLU"},
            {"name": "fc_right", "shares": "fc", "inputs": ["right"]},
            {"name": "other", "type": "ReLU"},
            {"name": "deep", "shares": "fc"},
            {"type": "Concat", "inputs": ["one", "deep"]},
            linear(10, name="head"),
        ],
    },
    "places, a class token and layer scale": {
        "input": {"shape": [6, 8]},
        "layers": [
            parameter("places", 6, 8),
            {"name": "placed", "type": "Add", "inputs": ["input", "places"]},
            parameter("token", 1, 8),
            {"name": "tokens", "type": "Concat", "inputs": ["placed", "token"]},
            {"name": "attend", "type": "MultiheadAttention", "args": {"num_heads": 2}},
            parameter("scale", 1, 8),
            {"name": "scaled", "type": "Multiply", "inputs": ["attend", "scale"]},
            {"name": "sum", "type": "Add", "inputs": ["tokens", "scaled"]},
            {"type": "LastStep"},
            linear(10, name="head"),
        ],
    },
    "decoder over a memory, causal": {
        "input": [{"name": "source", "shape": [4, 8]}, {"name": "target", "shape": [5, 8]}],
        "layers": [
            {"name": "encoder", "type": "TransformerEncoderLayer",
             "args": {"nhead": 2, "dim_feedforward": 16}, "inputs": ["source"]},
            {"name": "decoder", "type": "TransformerDecoderLayer",
             "args": {"nhead": 2, "dim_feedforward": 16}, "inputs": ["target", "encoder"],
             "forward": {"tgt_is_causal": True}},
            linear(10, name="head"),
        ],
    },
    "computed weights": {
        "input": {"shape": [2, 8, 8]},
        "layers": [
            {"name": "conv", "type": "Conv2d", "args": {"out_channels": 4, "kernel_size": 3},
             "init": HE, "parametrizations": {"weight": {"name": "weight_norm"}}},
            {"type": "ReLU"},
            {"name": "up", "type": "ConvTranspose2d",
             "args": {"out_channels": 3, "kernel_size": 2, "stride": 2},
             "parametrizations": {"weight": {"name": "spectral_norm"}}},
            {"type": "Flatten"},
            linear(10, name="head", parametrizations={
                "weight": {"name": "spectral_norm", "args": {"n_power_iterations": 2}}}),
        ],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_measured_trained_and_told(name: str) -> None:
    report = report_on({"spec": NETWORKS[name]}, PLAN)
    measured = {p.name: p for layer in report.layers for p in layer.parameters}
    nodes = resolve(NETWORKS[name]).layers
    assert set(measured) == {f"{node.name}.{key}" for node in nodes for key in node.stored}
    assert all(p.connected and p.grad_norm is not None for p in measured.values())
    assert all("parametrizations" not in layer.name for layer in report.layers)
    assert report.diagnosis.verdict != "inconclusive"


def norm_after(name: str, width: int) -> Spec:
    layer = {"after": name, "type": "LayerNorm", "args": {"normalized_shape": width}}
    return {"kind": "normalization", "layers": [layer]}


def drawn_anew(name: str) -> Spec:
    draw = {"parameter": name, "initializer": "orthogonal_", "args": {"gain": 2.0}}
    return {"kind": "initializer", "parameters": [draw]}


CHANGES: dict[str, list[Spec]] = {
    "two inputs": [norm_after("head", 10), drawn_anew("conv.weight")],
    "siamese": [norm_after("fc#2", 12), drawn_anew("fc.weight")],
    "places, a class token and layer scale": [norm_after("head", 10), drawn_anew("places.weight")],
    "decoder over a memory, causal": [norm_after("head", 10), drawn_anew("head.weight")],
    "computed weights": [norm_after("head", 10), norm_after("conv", 6)],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_repaired_files_are_the_changed_model(name: str) -> None:
    """Patched spec, state dict and source."""
    before, changes = resolve(NETWORKS[name]), CHANGES[name]
    session = Session.open(PLAN, before, None)
    done = repaired(before, changes)
    assert done is not None
    file = io.BytesIO()
    session.export(file, tuple(changes))
    content = renamed(file.getvalue(), done.names)
    rebuilt = build(resolve(done.spec))
    assert tensor_names(content) == set(rebuilt.state_dict())
    rebuilt.load_state_dict(load(content))
    own = executed(pytorch_source(done.spec))
    own.load_state_dict(load(content))
    changed = session.changed(tuple(changes))
    changed.reset()
    inputs = session.feed.inputs(session.batch_size, 0, 0)
    outputs = []
    for run in (rebuilt, own, changed.forward):
        torch.manual_seed(3)  # dropout
        outputs.append(run(*inputs))
    assert torch.equal(outputs[0], outputs[1])
    assert torch.allclose(outputs[0], outputs[2], atol=1e-6)


def executed(source: str) -> nn.Module:
    names: dict[str, Any] = {"__name__": "repaired"}
    exec(compile(source, "repaired.py", "exec"), names)
    model: nn.Module = names["RepairedModel"]()
    return model


def drawn(spec: Spec) -> SpecNetwork:
    torch.manual_seed(0)
    return build(resolve(spec))


def test_a_shared_layer_gathers_the_gradient_of_every_use() -> None:
    model = drawn(NETWORKS["siamese"])
    left, right = torch.randn(4, 12), torch.randn(4, 12)
    fc, head = model.get_submodule("fc"), model.get_submodule("head")
    one = torch.relu(fc(left))
    by_hand = head(torch.cat([one, fc(torch.relu(fc(right)))], 1))
    assert torch.equal(model(left, right), by_hand)
    names = [layer.name for layer in Session.open(PLAN, resolve(NETWORKS["siamese"]), None).layers]
    assert names == ["fc", "fc#2", "fc#3", "head"]


def test_a_layer_behind_another_use_is_named_as_the_spec_names_it() -> None:
    """The recorded graph calls it fc#2, the spec fc_right."""
    changes: list[Spec] = [
        {
            "kind": "normalization",
            "layers": [{"after": "fc#2", "type": "LayerNorm", "args": {"normalized_shape": 12}}],
        },
        {"kind": "activation", "layers": ["fc#2"], "activation": "Tanh", "replaces": "ReLU"},
    ]
    done = repaired(resolve(NETWORKS["siamese"]), changes)
    assert done is not None
    written = {layer["name"]: layer for layer in done.spec["layers"]}
    assert written["fc_right_norm"]["inputs"] == ["fc_right"]
    assert written["other"]["type"] == "Tanh"
    assert written["one"]["type"] == "ReLU"


def test_a_causal_mask_hides_what_comes_later() -> None:
    attention = {
        "type": "MultiheadAttention",
        "args": {"num_heads": 2, "bias": False},
        "forward": {"is_causal": True},
    }
    model = drawn({"input": {"shape": [5, 8]}, "layers": [{"name": "a", **attention}]}).double()
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    a = model.get_submodule("a")
    assert isinstance(a, nn.MultiheadAttention)
    assert a.in_proj_weight is not None
    query, key, value = (
        part.unflatten(2, (2, 4)).transpose(1, 2)
        for part in (x @ a.in_proj_weight.T).chunk(3, dim=2)
    )
    heads = scaled_dot_product_attention(query, key, value, is_causal=True)
    assert torch.allclose(model(x), a.out_proj(heads.transpose(1, 2).flatten(2)))
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[:, 1].sum(), [x])
    assert gradient[:, :2].abs().sum() > 0
    assert not gradient[:, 2:].any()


@pytest.mark.parametrize(
    ("layer", "call"),
    [
        ({"type": "TransformerEncoder", "args": {"num_layers": 2, "encoder_layer": {
            "type": "TransformerEncoderLayer", "args": {"nhead": 2, "dim_feedforward": 8,
                                                        "dropout": 0.0}}}}, {"is_causal": True}),
        ({"type": "Transformer", "inputs": ["input", "input"], "args": {
            "d_model": 8, "nhead": 2, "num_encoder_layers": 1, "num_decoder_layers": 1,
            "dim_feedforward": 8, "dropout": 0.0}}, {"src_is_causal": True, "tgt_is_causal": True}),
    ],
    ids=lambda one: one.get("type", ""),
)  # fmt: skip
def test_composed_layers_are_causal_too(layer: Spec, call: dict[str, bool]) -> None:
    spec = {"input": {"shape": [5, 8]}, "layers": [{**layer, "forward": call}]}
    model, x = drawn(spec), torch.randn(2, 5, 8, requires_grad=True)
    # Weighted: a plain sum of what LayerNorm gives is 0 whatever it gets.
    (gradient,) = torch.autograd.grad((model(x)[:, 0] * torch.arange(8.0)).sum(), [x])
    later = gradient[:, 1:].abs().sum()
    # The decoder sees the whole memory, whose steps see only earlier ones.
    assert bool(later) == (layer["type"] == "Transformer")
    assert expanded(resolve(spec))["layers"][0]["forward"] == call


def test_computed_weights_are_torchs_own() -> None:
    model = drawn(NETWORKS["computed weights"])
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 4, 3)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    weight_norm(conv)
    up = spectral_norm(nn.ConvTranspose2d(4, 3, 2, stride=2))
    head = spectral_norm(nn.Linear(432, 10), n_power_iterations=2)
    assert same(model.get_submodule("conv"), conv)
    assert same(model.get_submodule("up"), up)
    assert same(model.get_submodule("head"), head)


def same(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[n], theirs[n]) for n in ours)


@pytest.mark.parametrize("name", ["computed weights", "siamese"])
def test_given_weights_go_in_under_the_names_of_a_state_dict(name: str) -> None:
    model = drawn(NETWORKS[name])
    file = io.BytesIO()
    Session.open(PLAN, resolve(NETWORKS[name]), None).export(file)
    assert tensor_names(file.getvalue()) == set(model.state_dict())
    session = Session.open(PLAN, resolve(NETWORKS[name]), None, weights=file.getvalue())
    weights = load(file.getvalue())
    assert all(torch.equal(weights[n], value) for n, value in session.parameters.items())


def test_a_parameter_is_one_for_all_samples() -> None:
    model = drawn(NETWORKS["places, a class token and layer scale"])
    x = torch.zeros(3, 6, 8)
    values: dict[str, Tensor] = {"input": x}
    model.run(values)
    assert values["placed"].shape == (3, 6, 8)
    assert torch.equal(values["placed"][0], model.get_parameter("places.weight"))
    assert values["tokens"].shape == (3, 7, 8)
