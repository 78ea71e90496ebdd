"""What a server knows: `GET /v1/catalog`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Detector:
    """A finding that can be made."""

    code: str
    title: str = ""
    docs: str = ""
    """What it sees, why it matters, evidence, known false alarms, references."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """A recommendation that can be made."""

    kind: str
    resolves: tuple[str, ...] = ()
    """Finding codes it can be offered for; empty: it is always offered."""
    docs: str = ""
    """What it changes, and when."""


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a layer or an initializer."""

    name: str
    required: bool = False
    """False: it has a default, or is inferred."""
    inferred: bool = False
    """True: may be left out, the layer's input tells."""
    default: Any = None
    """None where there is none."""


@dataclass(frozen=True, slots=True)
class LayerType:
    """A layer a spec may use."""

    name: str
    """`type` in a spec."""
    category: str = ""
    """linear, convolution, recurrent, activation, normalization …"""
    summary: str = ""
    """What it computes."""
    arguments: tuple[Argument, ...] = ()
    """`args` in a spec."""


@dataclass(frozen=True, slots=True)
class Initializer:
    """A function `init` may name."""

    name: str
    """As in torch.nn.init."""
    summary: str = ""
    """What it fills with."""
    arguments: tuple[Argument, ...] = ()
    """`args` in `init`."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """What the server knows."""

    detectors: tuple[Detector, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    layer_types: tuple[LayerType, ...] = ()
    """Every type, activations too."""
    activations: tuple[str, ...] = ()
    """Names of the layer types that are activations."""
    initializers: tuple[Initializer, ...] = ()
