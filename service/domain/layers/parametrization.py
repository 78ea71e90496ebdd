"""Parametrizations of torch.nn.utils.parametrizations: a weight computed from other parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from service.domain.layers.kinds import Real, Whole, optional
from service.domain.layers.signature import Args, Argument, BadArgument, Signature
from service.domain.layers.tensor import Shape

PARAMETRIZED = frozenset({"linear", "convolution", "embedding"})
"""Categories whose weights may be: other modules read theirs in ways that a computed one breaks."""


@dataclass(frozen=True, slots=True)
class ParametrizationType:
    """One of them."""

    signature: Signature
    """Its arguments, without the module and the name of the parameter."""
    stored: Callable[[Shape, Args], Mapping[str, Shape]]
    """What a state dict has in place of the weight: name below `parametrizations.<weight>` →
    sizes. Arguments are complete."""


def _checked_dim(shape: Shape, args: Args) -> int | None:
    dim: int | None = args["dim"]
    if dim is not None and not -len(shape) <= dim < len(shape):
        raise BadArgument("dim", f"`dim` {dim} is out of range for {len(shape)} dimension(s)")
    return dim


def _lengths(shape: Shape, args: Args) -> Mapping[str, Shape]:
    """Length and direction, w = g·v/‖v‖ (Salimans & Kingma 2016, arXiv:1602.07868)."""
    dim = _checked_dim(shape, args)
    kept = None if dim is None else dim % len(shape)
    sizes = (size if place == kept else 1 for place, size in enumerate(shape))
    return {"original0": () if kept is None else tuple(sizes), "original1": shape}


def _divided(shape: Shape, args: Args) -> Mapping[str, Shape]:
    """The weight before it is divided by its largest singular value (Miyato et al. 2018,
    arXiv:1802.05957)."""
    _checked_dim(shape, args)
    return {"original": shape}


_DIM = Whole(-8, 8)

PARAMETRIZATIONS: Mapping[str, ParametrizationType] = MappingProxyType(
    {
        "weight_norm": ParametrizationType(
            Signature("weight_norm", (Argument("dim", optional(_DIM), 0),)), _lengths
        ),
        "spectral_norm": ParametrizationType(
            Signature(
                "spectral_norm",
                (
                    Argument("n_power_iterations", Whole(1, 1000), 1),
                    Argument("eps", Real(above=0), 1e-12),
                    Argument("dim", optional(_DIM), None),
                ),
            ),
            _divided,
        ),
    }
)
"""Every one that a spec may name, by name."""
