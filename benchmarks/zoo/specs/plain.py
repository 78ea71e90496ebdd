"""Perceptrons and recurrent members, as specs."""

from __future__ import annotations

from typing import Any

from benchmarks.zoo.specs.layers import ZEROS, Layer, begun, joined, layer, spec
from benchmarks.zoo.tasks import CLASSES

Spec = dict[str, Any]


def _dense(*widths: int) -> list[Layer]:
    """Linear layers with ReLU between."""
    layers: list[Layer] = []
    for width in widths:
        layers += [layer("Linear", out_features=width), layer("ReLU")]
    return layers[:-1]


def perceptron() -> Spec:
    """Three hidden layers at PyTorch's default."""
    return spec([64], _dense(64, 64, 64, CLASSES))


def regression() -> Spec:
    """A small perceptron with one real output."""
    return spec([64], _dense(64, 64, 1))


def autoencoder() -> Spec:
    """64 numbers through 8 and back."""
    return spec([64], [*_dense(32, 8), *_dense(32, 64)])


def recurrent(cell: str) -> Spec:
    """The last step of a recurrent network, and a head."""
    layers = [
        layer(cell, "rnn", hidden_size=32, num_layers=2),
        layer("LastStep"),
        layer("Linear", "head", out_features=CLASSES),
    ]
    return spec([8, 8], layers)


def lora() -> Spec:
    """Corrections to the hidden layers of a perceptron, and a new head; a spec knows no frozen
    parameters, so the layers that are corrected learn as well."""
    layers: list[Layer] = []
    below = "input"
    for index in range(3):
        base, a, b, total, act = (f"{name}{index}" for name in ("base", "a", "b", "sum", "act"))
        layers += [
            joined("Linear", base, [below], out_features=64),
            joined("Linear", a, [below], out_features=4, bias=False),
            begun(layer("Linear", b, out_features=64, bias=False), {"weight": ZEROS}),
            joined("Add", total, [base, b]),
            layer("ReLU", act),
        ]
        below = act
    return spec([64], [*layers, layer("Linear", "head", out_features=CLASSES)])
