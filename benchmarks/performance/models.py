"""The networks that are timed, initialized as their owners do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.large_model import GPT2
from service.domain.probe_plan import InputPlan


@dataclass(frozen=True, slots=True)
class Network:
    """One row of the overhead table."""

    name: str
    build: Callable[[], nn.Module]
    input: InputPlan
    batch_size: int

    def made(self) -> nn.Module:
        """The same weights every time."""
        torch.manual_seed(0)
        return self.build()


def perceptron(depth: int, width: int, classes: int = 10) -> nn.Module:
    """Linear and ReLU `depth` times, He initialization, and a head."""
    layers = [part for _ in range(depth) for part in (nn.Linear(width, width), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(width, classes))
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return model


class _Pooled(nn.Module):
    """A network over sequences, and a head on the mean of its outputs."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.body(x)
        logits: Tensor = self.head((outputs[0] if isinstance(outputs, tuple) else outputs).mean(1))
        return logits


class _Shortcut(nn.Module):
    """Two or three convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, channels: tuple[int, int, int], stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        given, inner, out = channels
        if bottleneck:
            shapes = [(given, inner, 1, 1), (inner, inner, 3, stride), (inner, out, 1, 1)]
        else:
            shapes = [(given, out, 3, stride), (out, out, 3, 1)]
        parts: list[nn.Module] = []
        for source, target, kernel, step in shapes:
            parts += [
                nn.Conv2d(source, target, kernel, step, kernel // 2, bias=False),
                nn.BatchNorm2d(target),
                nn.ReLU(),
            ]
        self.branch = nn.Sequential(*parts[:-1])
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or given != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(given, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.branch(x) + self.shortcut(x))


def resnet(blocks: tuple[int, ...], classes: int, *, bottleneck: bool, large: bool) -> nn.Module:
    """ResNet-18 is (2, 2, 2, 2), ResNet-50 (3, 4, 6, 3) of bottlenecks; `large`: for images of
    224 × 224, with a stride and a pooling before the first block."""
    parts: list[nn.Module] = [
        nn.Conv2d(3, 64, 7 if large else 3, 2 if large else 1, 3 if large else 1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
    ]
    if large:
        parts.append(nn.MaxPool2d(3, 2, 1))
    given = 64
    for stage, count in enumerate(blocks):
        inner = 64 << stage
        out = inner * (4 if bottleneck else 1)
        for index in range(count):
            stride = 2 if stage and not index else 1
            parts.append(_Shortcut((given, inner, out), stride, bottleneck=bottleneck))
            given = out
    model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(given, classes))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def _transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, batch_first=True, norm_first=True)
    return _Pooled(nn.TransformerEncoder(layer, 6, enable_nested_tensor=False), 256)


NETWORKS = (
    Network(
        "ResNet-18, 3×32×32, batch 16",
        lambda: resnet((2, 2, 2, 2), 10, bottleneck=False, large=False),
        InputPlan((3, 32, 32)),
        16,
    ),
    Network("transformer, 6 layers, d 256, 8×128", _transformer, InputPlan((128, 256)), 8),
    Network(
        "GPT-2-like, 4 layers, d 256, 4×128",
        lambda: GPT2(256, 4, 8, vocabulary=4096),
        InputPlan((128,), "int64", high=4096),
        4,
    ),
    Network(
        "LSTM 2×128, 100 steps, batch 32",
        lambda: _Pooled(nn.LSTM(128, 128, 2, batch_first=True), 128),
        InputPlan((100, 128)),
        32,
    ),
    Network("MLP 100×256, batch 64", lambda: perceptron(100, 256), InputPlan((256,)), 64),
    Network("MLP 8×4096, batch 64", lambda: perceptron(8, 4096), InputPlan((4096,)), 64),
)
