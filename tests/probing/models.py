"""Networks that the probing tests share, and how to save them as TorchScript."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn


def mlp(
    depth: int,
    width: int,
    activation: Callable[[], nn.Module],
    *,
    init: Callable[[Tensor], object] | None = None,
    inputs: int = 64,
    classes: int = 10,
) -> nn.Sequential:
    """depth hidden layers and a head; `init` draws every weight, biases are then zero."""
    layers: list[nn.Module] = []
    for index in range(depth + 1):
        last = index == depth
        linear = nn.Linear(inputs if index == 0 else width, classes if last else width)
        if init is not None:
            init(linear.weight)
            nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, activation()]
    return nn.Sequential(*layers)


class ConvNet(nn.Module):
    """Convolution, BatchNorm, in-place ReLU, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(4 * 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu_(self.norm(self.conv(x)))
        logits: Tensor = self.head(self.drop(hidden).flatten(1))
        return logits


class Block(nn.Module):
    """A residual block as in torchvision's ResNet."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x
        out: Tensor = self.relu2(y)
        return out


def resnet(channels: int = 16, blocks: int = 4) -> nn.Sequential:
    """A small ResNet with BatchNorm at PyTorch's default initialization."""
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        *[Block(channels) for _ in range(blocks)],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 10),
    )


class LastStepRNN(nn.Module):
    """RNN, LSTM or GRU, and a head on its last step. One class each: TorchScript wants to know
    what comes back."""

    def __init__(self, kind: str, dropout: float = 0.0) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(8, 16, num_layers=2, batch_first=True, dropout=dropout)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x)
        logits: Tensor = self.head(out[:, -1])
        return logits


def transformer(layers: int = 2, *, norm_first: bool = False, dropout: float = 0.1) -> nn.Module:
    """An encoder with a head per position."""
    layer = nn.TransformerEncoderLayer(
        16, 4, 32, batch_first=True, norm_first=norm_first, dropout=dropout
    )
    encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
    return nn.Sequential(encoder, nn.Linear(16, 10))


def scripted(model: nn.Module) -> torch.jit.ScriptModule:
    """torch.jit.script, whose deprecation is not the tests' concern."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: torch.jit.ScriptModule = torch.jit.script(model)
    return module


def traced(model: nn.Module, example: Tensor) -> torch.jit.ScriptModule:
    """torch.jit.trace in the model's own mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: torch.jit.ScriptModule = torch.jit.trace(model, example, check_trace=False)
    return module


def saved(model: torch.jit.ScriptModule) -> io.BytesIO:
    """The bytes of a TorchScript file, at their beginning."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(model, file)
    file.seek(0)
    return file
