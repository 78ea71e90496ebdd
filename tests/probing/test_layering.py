"""How a recorded graph is cut into layers, and what each layer is called."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from service.probing.layering import Layer, layers_of
from service.probing.loaders import own_types
from service.probing.operations import output_operation
from service.probing.trace import record
from tests.probing.models import ConvNet, LastStepRNN, resnet, transformer


def cut(model: nn.Module, *shape: int) -> tuple[Layer, ...]:
    parameters = dict(model.named_parameters())
    recording = record(model, parameters, dict(model.named_buffers()), (torch.randn(4, *shape),))
    return layers_of(recording.module.graph, parameters)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "rrelu": nn.RReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "celu": lambda: nn.CELU(alpha=0.5),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "tanhshrink": nn.Tanhshrink,
    "softshrink": nn.Softshrink,
    "hardshrink": nn.Hardshrink,
    "hardtanh": nn.Hardtanh,
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "logsigmoid": nn.LogSigmoid,
    "threshold": lambda: nn.Threshold(0.1, 0.0),
    "glu": nn.GLU,
    "exponential": own_types.Exponential,
    "squareplus": own_types.Squareplus,
    "sparse_plus": own_types.SparsePlus,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_recognised(name: str) -> None:
    width = 8 if name == "glu" else 16
    model = nn.Sequential(nn.Linear(8, 16), ACTIVATIONS[name](), nn.Linear(width, 3))
    first, second = cut(model, 8)
    assert first.nonlinearity == name
    assert second.nonlinearity is None
    assert first.name == "0"
    assert second.entry is first.output


@pytest.mark.parametrize("name", ["relu", "sigmoid", "elu", "hardtanh", "leaky_relu", "silu"])
def test_in_place_activations_too(name: str) -> None:
    function = getattr(torch.nn.functional, name) if name != "sigmoid" else None

    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.fc(x)
            x = function(x, inplace=True) if function else x.sigmoid_()
            out: Tensor = self.head(x)
            return out

    assert cut(InPlace(), 8)[0].nonlinearity == name


def test_convolution_normalization_and_activation_are_one_layer() -> None:
    conv, head = cut(ConvNet(), 1, 8, 8)
    assert (conv.name, conv.op, conv.normalization, conv.nonlinearity) == (
        "conv",
        "conv2d",
        "batch_norm",
        "relu",
    )
    assert set(conv.parameters) == {"conv.weight", "conv.bias", "norm.weight", "norm.bias"}
    assert (head.name, head.op) == ("head", "linear")


def test_residual_blocks_know_their_skip() -> None:
    layers = cut(resnet(8, 2), 3, 8, 8)
    assert [layer.name for layer in layers] == [
        "0", "3.conv1", "3.conv2", "4.conv1", "4.conv2", "7",
    ]  # fmt: skip
    assert [layer.residual for layer in layers] == [False, False, True, False, True, False]
    assert [layer.depth for layer in layers] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("kind", "op"), [("RNN", "rnn"), ("LSTM", "lstm"), ("GRU", "gru")])
def test_a_recurrent_module_is_one_layer(kind: str, op: str) -> None:
    rnn, head = cut(LastStepRNN(kind), 5, 8)
    assert (rnn.name, rnn.op) == ("rnn", op)
    assert len(rnn.parameters) == 8
    assert head.name == "head"


def test_a_pre_norm_branch_owns_its_normalization() -> None:
    layers = {layer.name: layer for layer in cut(transformer(norm_first=True), 6, 16)}
    branch = layers["0.layers.1.linear1"]
    assert branch.normalization == "layer_norm"
    assert branch.entry is layers["0.layers.1.self_attn.out_proj"].output
    assert layers["0.layers.0.self_attn"].op == "attention"
    assert all(layer.output.meta["shape"][0] == 4 for layer in layers.values())


def test_what_is_written_into_an_empty_tensor_comes_from_the_writer() -> None:
    class Filled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(2, 4, 3, padding=1)
            self.wrapped = nn.Conv1d(4, 4, 3, padding=1, padding_mode="circular")
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.conv(x))
            filled = torch.empty(x.shape[0], 4, 8)
            filled[:, :, :4] = y[:, :, 4:]
            filled[:, :, 4:] = y[:, :, :4]
            out: Tensor = self.head(torch.relu(self.wrapped(filled)).mean(1))
            return out

    layers = cut(Filled(), 2, 8)
    assert [layer.name for layer in layers] == ["conv", "wrapped", "head"]
    assert [layer.depth for layer in layers] == [1, 2, 3]
    assert all(layer.entry is not None for layer in layers)


def test_a_module_used_twice_is_two_layers() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)
            self.between = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(torch.tanh(self.between(torch.tanh(self.fc(x)))))
            return out

    assert [layer.name for layer in cut(Shared(), 8)] == ["fc", "between", "fc#2"]


@pytest.mark.parametrize(
    ("last", "name"),
    [
        (nn.Softmax(-1), "softmax"),
        (nn.LogSoftmax(-1), "log_softmax"),
        (nn.Sigmoid(), "sigmoid"),
        (nn.ReLU(), "relu"),
        (nn.Identity(), None),
    ],
)
def test_the_last_operation_is_known(last: nn.Module, name: str | None) -> None:
    model = nn.Sequential(nn.Linear(8, 4), last, nn.Unflatten(1, (2, 2)))
    recording = record(model, dict(model.named_parameters()), {}, (torch.randn(4, 8),))
    (output,) = next(iter(reversed(recording.module.graph.nodes))).args
    assert isinstance(output, torch.fx.Node)
    assert output_operation(output) == name
