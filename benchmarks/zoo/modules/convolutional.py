"""Convolutional members, as modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.zoo.tasks import CLASSES

WIDTH = 16
"""Channels of the stem."""


class Residual(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, given: int, wanted: int, stride: int, *, zero: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, wanted, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wanted)
        self.conv2 = nn.Conv2d(wanted, wanted, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(wanted)
        self.short = (
            nn.Identity()
            if stride == 1 and given == wanted
            else nn.Sequential(
                nn.Conv2d(given, wanted, 1, stride, bias=False), nn.BatchNorm2d(wanted)
            )
        )
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        if zero:
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + self.short(x))


def resnet(*, zero: bool) -> nn.Module:
    """ResNet-18: four stages of two blocks; `zero`: zero-init residual (Goyal et al. 2017)."""
    stages, given = [], WIDTH
    for number, wanted in enumerate((WIDTH, WIDTH, 2 * WIDTH, 2 * WIDTH)):
        stride = 2 if number in (1, 2) else 1
        stages += [Residual(given, wanted, stride, zero=zero)]
        stages += [Residual(wanted, wanted, 1, zero=zero)]
        given = wanted
    stem = [nn.Conv2d(1, WIDTH, 3, 1, 1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU()]
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(given, CLASSES)]
    return nn.Sequential(*stem, *stages, *pool)


def vgg() -> nn.Module:
    """VGG-11 with batch normalization, torchvision's initialization."""
    layers: list[nn.Module] = []
    given = 1
    for wanted in (16, 0, 32, 0, 64, 64, 0, 64, 64):
        if not wanted:
            layers.append(nn.MaxPool2d(2))
            continue
        conv = nn.Conv2d(given, wanted, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(conv.bias) if conv.bias is not None else None
        layers += [conv, nn.BatchNorm2d(wanted), nn.ReLU()]
        given = wanted
    hidden, head = nn.Linear(64 * 4, 64), nn.Linear(64, CLASSES)
    for linear in (hidden, head):
        nn.init.normal_(linear.weight, 0, 0.01)
        nn.init.zeros_(linear.bias)
    return nn.Sequential(*layers, nn.Flatten(), hidden, nn.ReLU(), nn.Dropout(0.5), head)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7×7, LayerNorm, inverted bottleneck, LayerScale 1e-6 (Liu et al. 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.fc2(functional.gelu(self.fc1(y)))
        return x + y.permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    """Two stages of three blocks; std .02 truncated normals."""
    net = nn.Sequential(
        nn.Conv2d(1, WIDTH, 2, 2),
        nn.GroupNorm(1, WIDTH),
        *(ConvNeXtBlock(WIDTH) for _ in range(3)),
        nn.GroupNorm(1, WIDTH),
        nn.Conv2d(WIDTH, 2 * WIDTH, 2, 2),
        *(ConvNeXtBlock(2 * WIDTH) for _ in range(3)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(2 * WIDTH),
        nn.Linear(2 * WIDTH, CLASSES),
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


class Inverted(nn.Module):
    """MobileNetV2's inverted residual (Sandler et al. 2018)."""

    def __init__(self, given: int, wanted: int, stride: int) -> None:
        super().__init__()
        wide = 4 * given
        self.adds = stride == 1 and given == wanted
        self.body = nn.Sequential(
            nn.Conv2d(given, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, wanted, 1, bias=False),
            nn.BatchNorm2d(wanted),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.adds else y


def mobilenet() -> nn.Module:
    """A short MobileNetV2."""
    plan = ((8, 8, 1), (8, 12, 2), (12, 12, 1), (12, 16, 2), (16, 16, 1), (16, 16, 1))
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, 1, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        *(Inverted(*sizes) for sizes in plan),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(16, CLASSES),
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)
    return net


class UNet(nn.Module):
    """Down, up, and the shortcuts concatenated (Ronneberger et al. 2015)."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.down1, self.down2 = self.pair(1, 8), self.pair(8, 16)
        self.middle = self.pair(16, 32)
        self.up2, self.up1 = nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
        self.join2, self.join1 = self.pair(32, 16), self.pair(16, 8)
        self.head = nn.Conv2d(8, outputs, 1)

    @staticmethod
    def pair(given: int, wanted: int) -> nn.Sequential:
        """Two convolutions with batch normalization."""
        return nn.Sequential(
            nn.Conv2d(given, wanted, 3, padding=1),
            nn.BatchNorm2d(wanted),
            nn.ReLU(),
            nn.Conv2d(wanted, wanted, 3, padding=1),
            nn.BatchNorm2d(wanted),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(functional.max_pool2d(first, 2))
        low = self.middle(functional.max_pool2d(second, 2))
        high = self.join2(torch.cat([second, self.up2(low)], 1))
        y: Tensor = self.head(self.join1(torch.cat([first, self.up1(high)], 1)))
        return y


def segmentation() -> nn.Module:
    """Convolutions that keep the image's size, three classes a pixel."""
    layers: list[nn.Module] = []
    given = 1
    for dilation in (1, 2, 4, 1):
        layers += [
            nn.Conv2d(given, WIDTH, 3, padding=dilation, dilation=dilation),
            nn.GroupNorm(4, WIDTH),
            nn.SiLU(),
        ]
        given = WIDTH
    return nn.Sequential(*layers, nn.Conv2d(given, 3, 1))
