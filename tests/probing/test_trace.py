"""The recorded graph is the model: output, gradients and buffers, bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from service.domain.errors import ModelRaised, NotDifferentiable
from service.probing.loaders.torchscript import plain_executor
from service.probing.trace import record
from tests.probing.models import ConvNet, LastStepRNN, mlp, scripted, traced, transformer

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: mlp(5, 32, nn.Tanh), (64,)),
    "conv_batchnorm_dropout": (ConvNet, (1, 8, 8)),
    "lstm": (lambda: LastStepRNN("LSTM", dropout=0.2), (5, 8)),
    "gru": (lambda: LastStepRNN("GRU"), (5, 8)),
    "rnn": (lambda: LastStepRNN("RNN"), (5, 8)),
    "transformer": (transformer, (6, 16)),
    "transformer_pre_norm": (lambda: transformer(norm_first=True), (6, 16)),
}


def as_(kind: str, model: nn.Module, example: Tensor) -> nn.Module:
    if kind == "eager":
        return model
    plain_executor()
    module: nn.Module = scripted(model) if kind == "scripted" else traced(model, example)
    return module


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", ["eager", "scripted", "traced"])
@pytest.mark.parametrize("network", NETWORKS)
def test_unedited_graph_equals_the_model(network: str, kind: str, dtype: torch.dtype) -> None:
    make, shape = NETWORKS[network]
    torch.manual_seed(1)
    example = torch.randn(8, *shape, dtype=dtype)
    model = as_(kind, make().to(dtype).train(), example)
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    before = {name: value.clone() for name, value in buffers.items()}

    recording = record(model, parameters, buffers, (example,))
    assert all(torch.equal(buffers[name], before[name]) for name in buffers)

    def outcome(forward: Callable[[Tensor], Tensor]) -> list[Tensor]:
        with torch.no_grad():
            for name, value in buffers.items():
                value.copy_(before[name])
        torch.manual_seed(3)
        output = forward(fresh)
        weights = torch.linspace(0, 1, output.numel(), dtype=dtype).view_as(output)
        gradients = torch.autograd.grad((output * weights).sum(), list(parameters.values()))
        return [output, *gradients, *(value.clone() for value in buffers.values())]

    # Another batch than the one recorded: nothing of it may be baked in.
    fresh = torch.randn(8, *shape, dtype=dtype)
    for own, ours in zip(outcome(model), outcome(recording.module), strict=True):
        assert torch.equal(own, ours)
    assert all(value is parameters[name] for name, value in recording.parameters.items())


class NoGradBranch(nn.Module):
    """Half of it runs without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.learned = nn.Linear(4, 3)
        self.fixed = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            shift = self.fixed(x)
        out: Tensor = self.learned(x) + shift + self.learned(x).detach()
        return out


@pytest.mark.parametrize("kind", ["eager", "scripted"])
def test_no_grad_regions_and_detached_tensors_stay_so(kind: str) -> None:
    torch.manual_seed(0)
    example = torch.randn(8, 4)
    model = as_(kind, NoGradBranch(), example)
    parameters = dict(model.named_parameters())
    recording = record(model, parameters, {}, (example,))
    fresh = torch.randn(8, 4)
    for forward in (model, recording.module):
        output = forward(fresh)
        gradients = torch.autograd.grad(output.sum(), list(parameters.values()), allow_unused=True)
        got = {
            name: gradient is not None for name, gradient in zip(parameters, gradients, strict=True)
        }
        assert got == {
            "learned.weight": True,
            "learned.bias": True,
            "fixed.weight": False,
            "fixed.bias": False,
        }
    assert torch.equal(model(fresh), recording.module(fresh))
    assert torch.is_grad_enabled()


def test_recording_leaves_the_generator_alone() -> None:
    model = ConvNet()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    record(
        model,
        dict(model.named_parameters()),
        dict(model.named_buffers()),
        (torch.ones(2, 1, 8, 8),),
    )
    assert torch.equal(torch.rand(3), expected)


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("only on Tuesdays")


class Counts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(1)


def test_a_model_that_raises_says_what_it_said() -> None:
    with pytest.raises(ModelRaised, match="only on Tuesdays"):
        record(Raises(), {}, {}, (torch.ones(2, 3),))


def test_a_model_without_a_floating_output_is_not_differentiable() -> None:
    with pytest.raises(NotDifferentiable):
        record(Counts(), {}, {}, (torch.ones(2, 3),))


class Overweight(nn.Module):
    """Asks for more memory than any machine has."""

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat(1 << 40, 1 << 10)


@pytest.mark.parametrize("kind", ["eager", "scripted"])
def test_what_an_operation_said_survives_torchscript(kind: str) -> None:
    example = torch.ones(2, 3)
    with pytest.raises(ModelRaised, match=r"allocate|overflow|memory"):
        record(as_(kind, Overweight(), example), {}, {}, (example,))
