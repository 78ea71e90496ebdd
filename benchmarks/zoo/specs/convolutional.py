"""Convolutional members, as specs."""

from __future__ import annotations

from typing import Any

from benchmarks.zoo.modules.convolutional import WIDTH
from benchmarks.zoo.specs.layers import (
    FAN_OUT,
    ZEROS,
    Init,
    Layer,
    begun,
    constant,
    group,
    joined,
    layer,
    normal,
    spec,
    truncated,
)
from benchmarks.zoo.tasks import CLASSES

Spec = dict[str, Any]

IMAGE = (1, 16, 16)


def _conv(name: str | None, wanted: int, size: int, init: Init | None = None, **args: Any) -> Layer:
    made = layer("Conv2d", name, out_channels=wanted, kernel_size=size, **args)
    return made if init is None else begun(made, init)


def _head(*, init: Init | None = None) -> list[Layer]:
    """Global pooling and a linear layer."""
    linear = layer("Linear", "head", out_features=CLASSES)
    pool = layer("AdaptiveAvgPool2d", "pool", output_size=1)
    return [pool, layer("Flatten"), linear if init is None else begun(linear, init)]


def _residual(name: str, wanted: int, stride: int, *, zero: bool, project: bool) -> Layer:
    """Two convolutions beside a shortcut (He et al. 2016)."""
    he = {"weight": FAN_OUT}
    last = layer("BatchNorm2d", "bn2")
    layers = [
        _conv("conv1", wanted, 3, he, stride=stride, padding=1, bias=False),
        layer("BatchNorm2d", "bn1"),
        layer("ReLU"),
        _conv("conv2", wanted, 3, he, padding=1, bias=False),
        begun(last, {"weight": ZEROS}) if zero else last,
    ]
    short = "input"
    if project:
        conv = _conv("short", wanted, 1, stride=stride, bias=False)
        layers += [{**conv, "inputs": ["input"]}, layer("BatchNorm2d", "bn3")]
        short = "bn3"
    return group(name, [*layers, joined("Add", "sum", ["bn2", short]), layer("ReLU", "act")])


def resnet(*, zero: bool) -> Spec:
    """ResNet-18: four stages of two blocks; `zero`: zero-init residual (Goyal et al. 2017)."""
    layers = [_conv("stem", WIDTH, 3, padding=1, bias=False), layer("BatchNorm2d"), layer("ReLU")]
    given = WIDTH
    for number, wanted in enumerate((WIDTH, WIDTH, 2 * WIDTH, 2 * WIDTH)):
        stride = 2 if number in (1, 2) else 1
        project = stride != 1 or given != wanted
        layers += [_residual(f"block{number}a", wanted, stride, zero=zero, project=project)]
        layers += [_residual(f"block{number}b", wanted, 1, zero=zero, project=False)]
        given = wanted
    return spec(IMAGE, [*layers, *_head()])


def vgg() -> Spec:
    """VGG-11 with batch normalization, torchvision's initialization."""
    layers: list[Layer] = []
    for wanted in (16, 0, 32, 0, 64, 64, 0, 64, 64):
        if not wanted:
            layers.append(layer("MaxPool2d", kernel_size=2))
            continue
        conv = _conv(None, wanted, 3, {"weight": FAN_OUT, "bias": ZEROS}, padding=1)
        layers += [conv, layer("BatchNorm2d"), layer("ReLU")]
    small = {"weight": normal(0.01), "bias": ZEROS}
    hidden = begun(layer("Linear", "hidden", out_features=64), small)
    head = begun(layer("Linear", "head", out_features=CLASSES), small)
    top = [layer("Flatten"), hidden, layer("ReLU"), layer("Dropout", p=0.5), head]
    return spec(IMAGE, [*layers, *top])


def _convnext_block(width: int) -> list[Layer]:
    """Depthwise 7×7, normalization, inverted bottleneck, LayerScale 1e-6 (Liu et al. 2022); the
    scale is a depthwise 1×1 convolution, the normalization over channels and places."""
    given = {"weight": truncated(), "bias": ZEROS}
    scale = {"weight": constant(1e-6)}
    return [
        _conv("depthwise", width, 7, given, padding=3, groups=width),
        layer("GroupNorm", "norm", num_groups=1),
        _conv("fc1", 4 * width, 1, given),
        layer("GELU"),
        _conv("fc2", width, 1, given),
        _conv("scale", width, 1, scale, groups=width, bias=False),
        joined("Add", "sum", ["scale", "input"]),
    ]


def convnext() -> Spec:
    """Two stages of three blocks; std .02 truncated normals."""
    given = {"weight": truncated(), "bias": ZEROS}
    pool, flat, head = _head(init=given)
    layers = [
        _conv("stem", WIDTH, 2, given, stride=2),
        layer("GroupNorm", num_groups=1),
        group("stage1", _convnext_block(WIDTH), 3),
        layer("GroupNorm", num_groups=1),
        _conv("down", 2 * WIDTH, 2, given, stride=2),
        group("stage2", _convnext_block(2 * WIDTH), 3),
        pool,
        flat,
        layer("LayerNorm"),
        head,
    ]
    return spec(IMAGE, layers)


def _inverted(name: str, given: int, wanted: int, stride: int) -> Layer:
    """MobileNetV2's inverted residual (Sandler et al. 2018)."""
    wide, he = 4 * given, {"weight": FAN_OUT}
    layers = [
        _conv("expand", wide, 1, he, bias=False),
        layer("BatchNorm2d"),
        layer("ReLU6"),
        _conv("depthwise", wide, 3, he, stride=stride, padding=1, groups=wide, bias=False),
        layer("BatchNorm2d"),
        layer("ReLU6"),
        _conv("project", wanted, 1, he, bias=False),
        layer("BatchNorm2d", "out"),
    ]
    if stride == 1 and given == wanted:
        layers.append(joined("Add", "sum", ["out", "input"]))
    return group(name, layers)


def mobilenet() -> Spec:
    """A short MobileNetV2."""
    plan = ((8, 8, 1), (8, 12, 2), (12, 12, 1), (12, 16, 2), (16, 16, 1), (16, 16, 1))
    pool, flat, head = _head(init={"weight": normal(0.01), "bias": ZEROS})
    layers = [
        _conv("stem", 8, 3, {"weight": FAN_OUT}, padding=1, bias=False),
        layer("BatchNorm2d"),
        layer("ReLU6"),
        *(_inverted(f"block{number}", *sizes) for number, sizes in enumerate(plan)),
        pool,
        flat,
        layer("Dropout", p=0.2),
        head,
    ]
    return spec(IMAGE, layers)


def _pair(name: str, wanted: int) -> Layer:
    """Two convolutions with batch normalization."""
    one = [_conv(None, wanted, 3, padding=1), layer("BatchNorm2d"), layer("ReLU")]
    return group(name, [*one, *one])


def unet(outputs: int) -> Spec:
    """Down, up, and the shortcuts concatenated (Ronneberger et al. 2015)."""
    up = {"kernel_size": 2, "stride": 2}
    layers = [
        _pair("down1", 8),
        layer("MaxPool2d", kernel_size=2),
        _pair("down2", 16),
        layer("MaxPool2d", kernel_size=2),
        _pair("middle", 32),
        layer("ConvTranspose2d", "up2", out_channels=16, **up),
        joined("Concat", "cat2", ["down2", "up2"], dim=1),
        _pair("join2", 16),
        layer("ConvTranspose2d", "up1", out_channels=8, **up),
        joined("Concat", "cat1", ["down1", "up1"], dim=1),
        _pair("join1", 8),
        _conv("head", outputs, 1),
    ]
    return spec(IMAGE, layers)


def segmentation() -> Spec:
    """Convolutions that keep the image's size, three classes a pixel."""
    layers: list[Layer] = []
    for dilation in (1, 2, 4, 1):
        layers += [
            _conv(None, WIDTH, 3, padding=dilation, dilation=dilation),
            layer("GroupNorm", num_groups=4),
            layer("SiLU"),
        ]
    return spec(IMAGE, [*layers, _conv("head", 3, 1)])
