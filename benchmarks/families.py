"""Families of networks to label: what the labelled cases so far do not have.

Every family draws small networks on the 8×8 digits from a seed. Depth and initialization are drawn
together: not a gain, but how many decades the signal is to gain or lose over the whole depth
(`RANGES`), since that is where networks begin to fail. So both healthy and sick ones are frequent.
A drawing says nothing about the label: that is for a real training to say (benchmarks/label.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Any

RANGES = ((-2.0, 1.2), (-9.0, 4.0), (-14.0, -6.0), (4.0, 12.0))
"""Ranges of the change of scale over depth, in decades, each as likely as the next: healthy
networks lose up to about two, sick ones begin at about five; growth beyond four is rarely survived
by SGD, often by Adam."""
CLASSES = 10
PIXELS = 64
ROWS = 8

CRITICAL: Mapping[str, float] = MappingProxyType(
    {
        "ReLU": 1.41,
        "ReLU6": 1.41,
        "LeakyReLU": 1.41,
        "PReLU": 1.37,
        "RReLU": 1.38,
        "ELU": 1.2,
        "CELU": 1.2,
        "SELU": 1.0,
        "GELU": 1.5,
        "SiLU": 1.8,
        "Mish": 1.6,
        "Hardswish": 1.8,
        "Softplus": 1.5,
        "LogSigmoid": 1.5,
        "Sigmoid": 4.0,
        "Hardsigmoid": 6.0,
        "Tanh": 1.0,
        "Hardtanh": 1.0,
        "Softsign": 1.1,
        "Tanhshrink": 2.0,
        "Softshrink": 1.7,
        "Hardshrink": 1.1,
        "Identity": 1.0,
    }
)
"""Gain on Xavier's scale at which the signal roughly keeps its size. Rough on purpose."""
COMMON = ("ReLU", "Tanh", "GELU", "SiLU", "LeakyReLU", "ELU")
RARE = tuple(sorted(set(CRITICAL) - set(COMMON) - {"Identity"}))


@dataclass(frozen=True, slots=True)
class Drawing:
    """A network to be labelled."""

    spec: dict[str, Any]
    """input and layers, every size written out."""
    data: str
    """How the digits are fed: flat, image or rows."""
    what: str
    """A few words."""


@dataclass(slots=True)
class Stack:
    """Layers in a row, named as they come."""

    layers: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        kind: str,
        args: Mapping[str, Any] | None = None,
        *,
        init: Mapping[str, Any] | None = None,
        inputs: list[str] | None = None,
    ) -> str:
        """Append a layer; returns its name."""
        name = f"{kind.lower()}{len(self.layers) + 1}"
        layer: dict[str, Any] = {"name": name, "type": kind}
        layer |= {"args": dict(args)} if args else {}
        layer |= {"init": dict(init)} if init else {}
        layer |= {"inputs": inputs} if inputs else {}
        self.layers.append(layer)
        return name

    def linear(self, given: int, wanted: int, init: Mapping[str, Any] | None = None) -> str:
        """A fully connected layer."""
        return self.add("Linear", {"in_features": given, "out_features": wanted}, init=init)

    def drawing(self, shape: list[int], data: str, what: str) -> Drawing:
        """The finished network."""
        return Drawing({"input": {"shape": shape}, "layers": self.layers}, data, what)


def weights(name: str, *, zero_bias: bool = True, **args: Any) -> dict[str, Any]:
    """`init` of a layer with a weight and a bias."""
    init: dict[str, Any] = {"weight": {"name": name, "args": args}}
    return init | ({"bias": {"name": "zeros_"}} if zero_bias else {})


def scaled(r: Random, activation: str, depth: int) -> tuple[dict[str, Any], str]:
    """Xavier weights whose gain moves the signal by some decades over `depth` layers."""
    moved = r.uniform(*r.choice(RANGES))
    gain = round(CRITICAL[activation] * 10 ** (moved / depth), 4)
    return weights("xavier_normal_", gain=gain), f"gain {gain} ({moved:+.1f} decades)"


def usual(r: Random, activation: str, depth: int) -> tuple[dict[str, Any] | None, str]:
    """Half the time a usual initialization, else one at the edge."""
    if r.random() < 0.5:
        return scaled(r, activation, depth)
    choices: list[tuple[dict[str, Any] | None, str]] = [
        (None, "default"),
        (weights("kaiming_normal_", nonlinearity="relu"), "He"),
        (weights("orthogonal_", gain=CRITICAL[activation]), "orthogonal"),
        (weights("trunc_normal_", std=0.02), "trunc_normal .02"),
        (weights("normal_", std=r.choice([0.1, 0.2, 0.4])), "normal .1-.4"),
    ]
    return r.choice(choices)


def between(r: Random, low: int, high: int) -> int:
    """A depth, each octave as likely as the next."""
    return round(math.exp(r.uniform(math.log(low), math.log(high))))


def rare_activation(r: Random) -> Drawing:
    """Plain multilayer perceptrons with activations that are seldom used."""
    depth, width, activation = between(r, 3, 30), r.choice([32, 64]), r.choice(RARE)
    init, how = usual(r, activation, depth)
    stack, size = Stack(), PIXELS
    for _ in range(depth):
        stack.linear(size, width, init)
        stack.add(activation)
        size = width
    stack.linear(size, CLASSES)
    return stack.drawing([PIXELS], "flat", f"{activation} L{depth} w{width} {how}")


def residual(r: Random) -> Drawing:
    """Residual perceptrons: branches of any scale, before, after or without normalization."""
    blocks, width, activation = between(r, 2, 16), 32, r.choice((*COMMON, "Mish", "Sigmoid"))
    norm = r.choice([None, None, "pre LayerNorm", "post LayerNorm", "pre BatchNorm1d"])
    growth = r.choice([r.uniform(0.0, 3.0), r.uniform(0.0, 8.0), r.uniform(8.0, 30.0)])
    branch = round(math.sqrt(max(10 ** (2 * growth / blocks) - 1, 1e-4)), 3)
    last = r.choice(
        [
            weights("xavier_normal_", gain=branch),
            weights("xavier_normal_", gain=branch),
            weights("zeros_"),
            None,
        ]
    )
    stem, bend = r.choice([0, between(r, 2, 40)]), r.choice((activation, "Sigmoid", "Sigmoid"))
    draw, how_stem = r.choice([usual(r, bend, stem), (None, "default")]) if stem else (None, "")
    stack = Stack()
    trunk = stack.linear(PIXELS, width)
    for _ in range(stem):
        stack.linear(width, width, draw)
        trunk = stack.add(bend)
    for _ in range(blocks):
        if norm and norm.startswith("pre"):
            add_norm(stack, norm.split()[1], width, inputs=[trunk])
            stack.linear(width, width)
        else:
            stack.add("Linear", {"in_features": width, "out_features": width}, inputs=[trunk])
        stack.add(activation)
        end = stack.linear(width, width, last)
        trunk = stack.add("Add", inputs=[trunk, end])
        if norm == "post LayerNorm":
            trunk = add_norm(stack, "LayerNorm", width)
    stack.linear(width, CLASSES)
    how = "default" if last is None else str(last["weight"])
    return stack.drawing(
        [PIXELS],
        "flat",
        f"{blocks} blocks {activation} {norm} branch {how} stem {stem} {bend} {how_stem}".strip(),
    )


def add_norm(
    stack: Stack, kind: str, width: int, *, inputs: list[str] | None = None, scale: float = 1.0
) -> str:
    """A normalization over `width` features or channels, its weight filled with `scale`."""
    args: dict[str, Any] = (
        {"num_groups": 4, "num_channels": width}
        if kind == "GroupNorm"
        else {"num_features": width}
        if kind.startswith("BatchNorm")
        else {"normalized_shape": width}
    )
    init = {"weight": {"name": "constant_", "args": {"val": scale}}} if scale != 1.0 else None
    return stack.add(kind, args, init=init, inputs=inputs)


def normalized(r: Random) -> Drawing:
    """Deep perceptrons with GroupNorm, RMSNorm, LayerNorm or BatchNorm, at every or some layers."""
    depth, width = between(r, 6, 48), r.choice([32, 64])
    activation = r.choice((*COMMON, "Mish", "Sigmoid", "Softsign", "Hardswish"))
    kind = r.choice(["GroupNorm", "RMSNorm", "LayerNorm", "BatchNorm1d"])
    every, after = r.choice([1, 1, 2, 4, 100]), r.random() < 0.3
    scale = r.choice([1.0, 1.0, 1.0, 0.1, 0.5, 3.0])
    init, how = usual(r, activation, depth)
    stack, size = Stack(), PIXELS
    for number in range(depth):
        stack.linear(size, width, init)
        normal = number % every == 0
        if normal and not after:
            add_norm(stack, kind, width, scale=scale)
        stack.add(activation)
        if normal and after:
            add_norm(stack, kind, width, scale=scale)
        size = width
    stack.linear(size, CLASSES)
    where = "after" if after else "before"
    return stack.drawing(
        [PIXELS],
        "flat",
        f"{kind} scale {scale} every {every} {where} {activation} L{depth} w{width} {how}",
    )


def pyramid(r: Random) -> Drawing:
    """Widths that grow or shrink with depth."""
    depth, activation = between(r, 3, 20), r.choice((*COMMON, "Sigmoid", "PReLU", "Softplus"))
    first, last = r.choice([(128, 8), (96, 16), (64, 12), (8, 96), (16, 128), (12, 64)])
    init, how = r.choice(
        [
            usual(r, activation, depth),
            usual(r, activation, depth),
            (weights("kaiming_normal_", mode="fan_out", nonlinearity="relu"), "He fan_out"),
            (weights("normal_", std=r.choice([0.03, 0.1, 0.3])), "one std for all"),
        ]
    )
    stack, size = Stack(), PIXELS
    for number in range(depth):
        share = number / max(depth - 1, 1)
        width = round(first * (last / first) ** share)
        stack.linear(size, width, init)
        stack.add(activation)
        size = width
    stack.linear(size, CLASSES)
    return stack.drawing([PIXELS], "flat", f"{first}-{last} {activation} L{depth} {how}")


def bottleneck(r: Random) -> Drawing:
    """Some layers of very few units."""
    depth, width, narrow = between(r, 2, 16), 64, r.choice([1, 2, 3, 4, 6, 8, 12])
    activation, every = r.choice((*COMMON, "PReLU", "Sigmoid")), r.choice([2, 3, 5])
    init, how = usual(r, activation, depth)
    norm = r.choice([None, None, None, "LayerNorm", "BatchNorm1d"])
    stack, size = Stack(), PIXELS
    for number in range(depth):
        wanted = narrow if number % every == 1 else width
        stack.linear(size, wanted, init)
        if norm and wanted == width:
            add_norm(stack, norm, wanted)
        stack.add(activation)
        size = wanted
    stack.linear(size, CLASSES)
    what = f"{narrow} units every {every} {activation} L{depth} {norm} {how}"
    return stack.drawing([PIXELS], "flat", what)


def convolutional(r: Random) -> Drawing:
    """Strided or pooled convolutions, with GroupNorm, BatchNorm or none."""
    depth, activation = between(r, 3, 12), r.choice((*COMMON, "Mish", "Hardswish", "Sigmoid"))
    norm = r.choice([None, None, None, "GroupNorm", "BatchNorm2d"])
    shrink = r.choice(["stride", "MaxPool2d", "AvgPool2d"])
    init, how = usual(r, activation, depth)
    stack, channels, side = Stack(), 1, 8
    for number in range(depth):
        down = side > 2 and number % 3 == 2
        wide = 16 if side < 8 else 8
        args = {"in_channels": channels, "out_channels": wide, "kernel_size": 3, "padding": 1}
        if down and shrink == "stride":
            args["stride"] = 2
        stack.add("Conv2d", args, init=init)
        if norm:
            add_norm(stack, norm, wide)
        stack.add(activation)
        if down and shrink != "stride":
            stack.add(shrink, {"kernel_size": 2})
        channels, side = wide, side // 2 if down else side
    if r.random() < 0.5:
        stack.add("AdaptiveAvgPool2d", {"output_size": 1})
        side = 1
    stack.add("Flatten")
    stack.linear(channels * side * side, CLASSES)
    what = f"{shrink} {norm} {activation} L{depth} {how}"
    return stack.drawing([1, 8, 8], "image", what)


def transformer(r: Random) -> Drawing:
    """Transformer encoders over the rows of the image."""
    width, blocks = r.choice([16, 32]), between(r, 1, 5)
    args = {
        "d_model": width,
        "nhead": r.choice([2, 4]),
        "dim_feedforward": 2 * width,
        "dropout": r.choice([0.0, 0.1]),
        "activation": r.choice(["relu", "gelu"]),
        "batch_first": True,
        "norm_first": r.random() < 0.5,
    }
    std = r.choice([None, None, 0.02, 0.002, 0.3, 1.0, 3.0])
    init = None
    if std is not None:
        call = {"name": "normal_", "args": {"std": std}}
        keys = ("self_attn.in_proj_weight", "self_attn.out_proj.weight")
        init = dict.fromkeys((*keys, "linear1.weight", "linear2.weight"), call)
    neck = r.choice([0, between(r, 3, 24)])
    final = args["norm_first"] and r.random() < 0.6
    stack = Stack()
    embed = r.choice([None, None, weights("normal_", std=r.choice([0.02, 1.0, 5.0]))])
    stack.linear(ROWS, width, embed)
    for _ in range(blocks):
        stack.add("TransformerEncoderLayer", args, init=init)
    if final:
        add_norm(stack, "LayerNorm", width)
    stack.add("Flatten")
    size = ROWS * width
    bend = r.choice(["Sigmoid", "Sigmoid", "Tanh", "ReLU"])
    draw, how = r.choice([usual(r, bend, neck), (None, "default")]) if neck else (None, "")
    for _ in range(neck):
        stack.linear(size, width, draw)
        stack.add(bend)
        size = width
    stack.linear(size, CLASSES)
    where = "pre" if args["norm_first"] else "post"
    what = f"{where}-norm x{blocks} w{width} std {std}"
    what += f" neck {bend} x{neck} {how}" if neck else ""
    return stack.drawing([ROWS, ROWS], "rows", what)


def recurrent(r: Random) -> Drawing:
    """Recurrent layers with odd recurrences, odd biases, or a long way from state to answer."""
    kind, layers = r.choice(["RNN", "RNN", "LSTM", "GRU"]), between(r, 1, 6)
    width = r.choice([16, 32])
    args: dict[str, Any] = {
        "input_size": ROWS,
        "hidden_size": width,
        "num_layers": layers,
        "batch_first": True,
    }
    if kind == "RNN":
        args["nonlinearity"] = r.choice(["tanh", "relu"])
    init: dict[str, Any] = {}
    how = "default"
    choice = r.random()
    if choice < 0.35:
        gain = round(10 ** r.uniform(-2.5, 1.0), 3)
        how = f"gain {gain}"
        init = {"weight": {"name": "xavier_normal_", "args": {"gain": gain}}}
    elif choice < 0.55:
        gain = round(10 ** r.uniform(-1.0, 0.8), 3)
        how = f"orthogonal hh {gain}"
        init = {"weight_hh": {"name": "orthogonal_", "args": {"gain": gain}}}
    elif choice < 0.75:
        value = r.choice([-6.0, -3.0, 3.0, 6.0])
        how = f"bias {value}"
        init = {"bias": {"name": "constant_", "args": {"val": value}}}
    neck, bend = r.choice([0, 0, between(r, 2, 12)]), r.choice(["Tanh", "ReLU", "Sigmoid"])
    stack = Stack()
    stack.add(kind, args, init=init)
    stack.add("LastStep")
    for _ in range(neck):
        stack.linear(width, width)
        stack.add(bend)
    stack.linear(width, CLASSES)
    what = f"{kind} {args.get('nonlinearity', '')} n{layers} w{width} {how}"
    what += f" neck {bend} x{neck}" if neck else ""
    return stack.drawing([ROWS, ROWS], "rows", what)


def biased(r: Random) -> Drawing:
    """Biases of the wrong scale: units switched off, or stuck where the activation is flat."""
    depth, width = r.choice([between(r, 1, 12), between(r, 6, 24)]), r.choice([32, 64])
    activation = r.choice((*COMMON, "Sigmoid", "Softplus", "Hardtanh", "PReLU"))
    call, how = r.choice(
        [
            ({"name": "constant_", "args": {"val": value}}, f"bias {value}")
            for value in (-8.0, -4.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 4.0, 8.0)
        ]
        + [
            ({"name": "normal_", "args": {"std": std}}, f"bias std {std}")
            for std in (0.3, 1.0, 2.0, 4.0, 8.0)
        ]
    )
    gain = CRITICAL[activation]
    init = {"weight": {"name": "xavier_normal_", "args": {"gain": gain}}, "bias": call}
    if r.random() < 0.3:
        init = {"bias": call}
    stack, size = Stack(), PIXELS
    for _ in range(depth):
        stack.linear(size, width, init)
        stack.add(activation)
        size = width
    stack.linear(size, CLASSES)
    return stack.drawing([PIXELS], "flat", f"{activation} L{depth} w{width} {how}")


def dropout(r: Random) -> Drawing:
    """Dropout from little to nearly everything."""
    depth, width = between(r, 1, 16), r.choice([32, 64, 128])
    activation = r.choice((*COMMON, "SELU", "Sigmoid"))
    share = r.choice([0.02, 0.05, 0.1, 0.1, 0.2, 0.5, 0.9])
    kind = "AlphaDropout" if activation == "SELU" else "Dropout"
    init, how = usual(r, activation, depth)
    stack, size = Stack(), PIXELS
    for _ in range(depth):
        stack.linear(size, width, init)
        stack.add(activation)
        stack.add(kind, {"p": share})
        size = width
    stack.linear(size, CLASSES)
    what = f"{kind} {share} {activation} L{depth} w{width} {how}"
    return stack.drawing([PIXELS], "flat", what)


def headed(r: Random) -> Drawing:
    """Last layers of all scales, and activations after them."""
    depth, width, activation = between(r, 1, 12), r.choice([32, 64]), r.choice(COMMON)
    gain = CRITICAL[activation] * r.choice([1.0, 1.0, 0.6, 0.4])
    init = weights("xavier_normal_", gain=round(gain, 3))
    if r.random() < 0.4:
        init, _ = scaled(r, activation, depth)
    head = r.choice(
        [
            weights("zeros_"),
            weights("zeros_"),
            *(weights("normal_", std=std) for std in (1e-6, 1e-4, 1e-2, 1.0, 10.0, 100.0)),
            weights("constant_", val=0.1),
        ]
    )
    if r.random() < 0.25:
        head |= {"bias": {"name": "constant_", "args": {"val": r.choice([-30.0, -5.0, 5.0])}}}
    stack, size = Stack(), PIXELS
    for _ in range(depth):
        stack.linear(size, width, init)
        stack.add(activation)
        size = width
    stack.linear(size, CLASSES, head)
    end = r.choice([None, None, "ReLU", "Sigmoid", "Softmax", "Tanh"])
    if end:
        stack.add(end, {"dim": 1} if end == "Softmax" else None)
    how = " ".join(f"{key} {call}" for key, call in head.items())
    return stack.drawing([PIXELS], "flat", f"{activation} L{depth} w{width} end {end} head {how}")


FAMILIES: Mapping[str, Callable[[Random], Drawing]] = MappingProxyType(
    {
        family.__name__: family
        for family in (
            rare_activation,
            residual,
            normalized,
            pyramid,
            bottleneck,
            convolutional,
            transformer,
            recurrent,
            biased,
            dropout,
            headed,
        )
    }
)
"""By name, in the order in which they are labelled, one after the other."""
