"""Every part of the gain against plain autograd on the eager model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from service.domain.architecture import resolve
from service.domain.measurements import LayerMeasurements
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing.loaders.loaded import loaded
from service.probing.session import Session
from tests.probing.models import (
    ConvNet,
    LastStepRNN,
    mlp,
    resnet,
    saved,
    scripted,
    transformer,
)

CLOSE = 1e-5


class Skips(nn.Module):
    """Layers that add their own input, after and before the activation."""

    def __init__(self) -> None:
        super().__init__()
        self.after = nn.Linear(16, 16)
        self.before = nn.Linear(16, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x + torch.tanh(self.after(x))
        x = torch.relu(self.before(x) + x)
        logits: Tensor = self.head(x)
        return logits


class Upsampling(nn.Module):
    """Transposed and grouped convolutions, group and root mean square normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 8, 4, stride=2, padding=1)
        self.up_norm = nn.GroupNorm(2, 8)
        self.up_act = nn.SiLU()
        self.down = nn.Conv2d(8, 4, 3, stride=2, padding=1, groups=2)
        self.down_norm = nn.RMSNorm(8)
        self.down_act = nn.Softsign()

    def forward(self, x: Tensor) -> Tensor:
        x = self.up_act(self.up_norm(self.up(x)))
        out: Tensor = self.down_act(self.down_norm(self.down(x)))
        return out


def session_of(model: nn.Module, shape: tuple[int, ...], form: str) -> Session:
    plan = ProbePlan(
        inputs=(InputPlan(shape),), batch_size=16, batches=2, seeds=1, precision="float64"
    )
    if form == "eager":
        return Session(loaded("torchscript", model, mode="train", dtype=torch.float64), plan)
    return Session.open(plan, None, saved(scripted(model)))


def watch(model: nn.Module, name: str, seen: dict[str, Tensor]) -> list[RemovableHandle]:
    """Keep what enters and leaves a module, by its name."""
    module = model.get_submodule(name)
    return [
        module.register_forward_pre_hook(lambda _, args: seen.__setitem__(f"into {name}", args[0])),
        module.register_forward_hook(lambda _, __, out: seen.__setitem__(name, out)),
    ]


def norms_at(
    session: Session, model: nn.Module, cut: Callable[[dict[str, Tensor]], list[Tensor]]
) -> list[list[float]]:
    """Per batch, the norm of the gradient at the tensors that `cut` picks, the last being the
    layer's output; through the layer alone."""
    found = []
    model_names = [name for name, _ in model.named_modules()]
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # what is overwritten cannot be differentiated by
    for number in range(session.plan.batches):
        batch = session.batch(0, number)
        seen: dict[str, Tensor] = {}
        hooks = [hook for name in model_names for hook in watch(model, name, seen)]
        torch.manual_seed(batch.seed)
        buffers = {name: value.clone() for name, value in model.named_buffers()}
        output = model(*(value.clone().requires_grad_() for value in batch.inputs))
        loss = session.loss.compute(output, batch.target(output, session.loss))
        tensors = cut(seen)
        (above,) = torch.autograd.grad(loss, tensors[-1], retain_graph=True)
        gradients = torch.autograd.grad(tensors[-1], tensors, above)
        found.append([gradient.norm().item() for gradient in gradients])
        with torch.no_grad():
            for name, kept in buffers.items():
                model.get_buffer(name).copy_(kept)
        for hook in hooks:
            hook.remove()
    return found


def geometric(values: list[float]) -> float:
    return math.exp(sum(math.log(value) for value in values) / len(values))


def layer(session: Session, name: str) -> LayerMeasurements:
    return next(found for found in session.measure().layers if found.name == name)


def assert_parts(
    measured: LayerMeasurements, norms: list[list[float]], kinds: tuple[str, ...]
) -> None:
    parts = measured.gradient.gain_parts
    assert parts is not None
    for number, kind in enumerate(kinds):
        factor = geometric([line[number] / line[number + 1] for line in norms])
        assert parts[kind] == pytest.approx(factor, rel=CLOSE)
    others = {kind: value for kind, value in parts.items() if kind not in kinds}
    assert set(others.values()) <= {None}
    product = math.prod(value for value in parts.values() if value is not None)
    assert product == pytest.approx(measured.gradient.gain, rel=1e-9)


def picked(*names: str) -> Callable[[dict[str, Tensor]], list[Tensor]]:
    return lambda seen: [seen[name] for name in names]


@pytest.mark.parametrize("form", ["eager", "torchscript"])
@pytest.mark.parametrize(
    ("make", "shape", "name", "cut", "kinds"),
    [
        (lambda: mlp(4, 32, nn.ReLU), (64,), "4", ("into 4", "4", "5"), ("weight", "activation")),
        (
            lambda: mlp(4, 32, nn.Sigmoid),
            (64,),
            "0",
            ("into 0", "0", "1"),
            ("weight", "activation"),
        ),
        (
            resnet,
            (3, 8, 8),
            "3.conv1",
            ("into 3.conv1", "3.conv1", "3.bn1", "3.relu1"),
            ("weight", "normalization", "activation"),
        ),
        (
            lambda: transformer(norm_first=True, dropout=0.0),
            (6, 16),
            "0.layers.1.linear1",
            (
                "into 0.layers.1.norm2",
                "0.layers.1.norm2",
                "0.layers.1.linear1",
                "0.layers.1.dropout",
            ),
            ("normalization", "weight", "activation"),
        ),
        (
            Upsampling,
            (3, 8, 8),
            "down",
            ("into down", "down", "down_norm", "down_act"),
            ("weight", "normalization", "activation"),
        ),
        (
            Upsampling,
            (3, 8, 8),
            "up",
            ("into up", "up", "up_norm", "up_act"),
            ("weight", "normalization", "activation"),
        ),
        (lambda: LastStepRNN("LSTM"), (5, 8), "head", ("into head", "head"), ("weight",)),
    ],
)
def test_parts_equal_plain_autograd(
    make: Any, shape: tuple[int, ...], name: str, cut: tuple[str, ...], kinds: Any, form: str
) -> None:
    torch.manual_seed(2)
    model = make().train().double()
    session = session_of(model, shape, form)
    assert_parts(layer(session, name), norms_at(session, model, picked(*cut)), kinds)


def test_parts_of_a_spec_equal_plain_autograd() -> None:
    spec = {
        "input": {"shape": [1, 8, 8]},
        "layers": [
            {"name": "conv", "type": "Conv2d", "args": {"out_channels": 4, "kernel_size": 3}},
            {"name": "norm", "type": "BatchNorm2d"},
            {"name": "act", "type": "GELU"},
            {"name": "flat", "type": "Flatten"},
            {"name": "hidden", "type": "Linear", "args": {"out_features": 16}},
            {"name": "ln", "type": "LayerNorm"},
            {"name": "act2", "type": "SELU"},
            {"name": "head", "type": "Linear", "args": {"out_features": 10}},
        ],
    }
    plan = ProbePlan(batch_size=16, batches=2, seeds=1, precision="float64")
    session = Session.open(plan, resolve(spec), None)
    kinds = ("weight", "normalization", "activation")
    for name, cut in {
        "conv": ("into conv", "conv", "norm", "act"),
        "hidden": ("into hidden", "hidden", "ln", "act2"),
    }.items():
        norms = norms_at(session, session.model.module, picked(*cut))
        assert_parts(layer(session, name), norms, kinds)
    assert layer(session, "hidden").path == ("weight", "layer_norm", "activation")


@pytest.mark.parametrize("form", ["eager", "torchscript"])
def test_a_skip_over_the_layer_itself_is_the_residual_part(form: str) -> None:
    """gain of x + tanh(Wx) over that of tanh(Wx) alone."""
    torch.manual_seed(3)
    model = Skips().double()
    session = session_of(model, (16,), form)
    ratios = []
    for number in range(session.plan.batches):
        batch = session.batch(0, number)
        x = batch.inputs[0].clone().requires_grad_()
        branch = torch.tanh(model.after(x))
        y = x + branch
        output = model.head(torch.relu(model.before(y) + y))
        loss = session.loss.compute(output, batch.target(output, session.loss))
        (above,) = torch.autograd.grad(loss, y, retain_graph=True)
        (alone,) = torch.autograd.grad(branch, x, above, retain_graph=True)
        (both,) = torch.autograd.grad(y, x, above)
        ratios.append((both.norm() / alone.norm()).item())
    measured = layer(session, "after")
    parts = measured.gradient.gain_parts
    assert parts is not None
    assert parts["residual"] == pytest.approx(geometric(ratios), rel=CLOSE)
    assert measured.path == ("weight", "activation", "own_residual")
    for name in ("after", "before"):
        one = layer(session, name)
        factors = (one.gradient.gain_parts or {}).values()
        product = math.prod(value for value in factors if value is not None)
        assert product == pytest.approx(one.gradient.gain, rel=1e-9)
    assert layer(session, "before").path == ("weight", "own_residual", "activation")


def test_the_sum_with_another_layer_passes_the_gradient_unchanged() -> None:
    torch.manual_seed(0)
    found = layer(session_of(resnet(), (3, 8, 8), "eager"), "3.conv2")
    assert found.residual
    assert found.path == ("weight", "batch_norm", "residual", "activation")
    assert found.gradient.gain_parts is not None
    assert found.gradient.gain_parts["residual"] == 1.0


def test_what_is_no_part_is_named() -> None:
    """Dropout of 0.3 multiplies the gradient by √(1/0.7) = 1.195 on average."""
    torch.manual_seed(0)
    found = layer(session_of(ConvNet(), (1, 8, 8), "eager"), "conv").gradient
    assert found.gain_parts is not None
    assert found.gain_parts["unexplained"] == pytest.approx(math.sqrt(1 / 0.7), rel=0.05)
    product = math.prod(value for value in found.gain_parts.values() if value is not None)
    assert product == pytest.approx(found.gain, rel=1e-9)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_recurrent_layers_are_no_chain(kind: str) -> None:
    measured = session_of(LastStepRNN(kind), (5, 8), "eager").measure()
    assert [one.gradient.gain_parts is None for one in measured.layers] == [True, False]
    assert measured.layers[0].path == ()


def test_attention_is_no_chain() -> None:
    measured = session_of(transformer(), (6, 16), "eager").measure()
    assert {
        one.gradient.gain_parts is None for one in measured.layers if one.op == "attention"
    } == {True}


def test_reads_are_the_fan_in_without_the_padding() -> None:
    """Counted by convolving ones with ones."""
    torch.manual_seed(0)
    measured = {
        one.name: one for one in session_of(Upsampling(), (3, 8, 8), "eager").measure().layers
    }
    model = Upsampling()
    for name, shape in (("up", (1, 3, 8, 8)), ("down", (1, 8, 16, 16))):
        module = model.get_submodule(name)
        assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        with torch.no_grad():
            nn.init.ones_(module.weight)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
            counted = module(torch.ones(shape)).mean().item()
        assert measured[name].reads == pytest.approx(counted)


def test_rrelu_and_elu_tell_their_arguments() -> None:
    model = nn.Sequential(
        nn.Linear(8, 8), nn.ELU(0.5), nn.Linear(8, 8), nn.RReLU(0.1, 0.2), nn.Linear(8, 4)
    )
    measured = session_of(model, (8,), "eager").measure()
    assert measured.layers[0].nonlinearity_args["alpha"] == 0.5
    assert measured.layers[1].nonlinearity_args == {"lower": 0.1, "upper": 0.2}
