"""What this server knows."""

from __future__ import annotations

from typing import Any

from api.schemas.responses.wire import Out


class DetectorOut(Out):
    """A finding that can be made."""

    code: str
    """`code` of the findings."""
    title: str
    """A few words."""
    docs: str
    """What it sees, why it matters, evidence, known false alarms, references."""


class RemedyOut(Out):
    """A recommendation that can be made."""

    kind: str
    """`kind` of the recommendations."""
    resolves: tuple[str, ...]
    """Finding codes it can be offered for; empty: it is always offered."""
    docs: str
    """What it changes, and when."""


class ArgumentOut(Out):
    """An argument of a layer or an initializer."""

    name: str
    """As torch names it."""
    required: bool
    """False: it has a default, or is inferred."""
    inferred: bool
    """True: may be left out, the layer's input tells."""
    default: Any
    """null where there is none."""


class LayerTypeOut(Out):
    """A layer a spec may use."""

    name: str
    """`type` in a spec."""
    category: str
    """linear, convolution, recurrent, activation, normalization …"""
    summary: str
    """What it computes."""
    arguments: tuple[ArgumentOut, ...]
    """`args` in a spec."""


class InitializerOut(Out):
    """A function `init` may name."""

    name: str
    """As in torch.nn.init."""
    summary: str
    """What it fills with."""
    arguments: tuple[ArgumentOut, ...]
    """`args` in `init`."""


class CatalogOut(Out):
    """What this server knows, read off its registries."""

    detectors: tuple[DetectorOut, ...]
    """Findings that can be made."""
    remedies: tuple[RemedyOut, ...]
    """Recommendations that can be made."""
    layer_types: tuple[LayerTypeOut, ...]
    """Every type, activations too."""
    activations: tuple[str, ...]
    """Names of the layer types that are activations."""
    initializers: tuple[InitializerOut, ...]
    """Functions that `init` may name."""
