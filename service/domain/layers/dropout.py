"""Dropout layers: random in training, the identity in evaluation."""

from __future__ import annotations

from service.domain.layers.axes import SPATIAL_AXES
from service.domain.layers.kinds import Flag, Real
from service.domain.layers.layer_type import LayerType
from service.domain.layers.signature import Argument

_ARGUMENTS = (Argument("p", Real(0, 1), 0.5), Argument("inplace", Flag(), False))


def _channelwise(count: int) -> LayerType:
    return LayerType(
        f"Dropout{count}d",
        "dropout",
        "Every channel zero with probability p, the others divided by 1 − p.",
        _ARGUMENTS,
        ranks=(count + 1, count + 1),
        axes=SPATIAL_AXES[count],
    )


DROPOUT_TYPES = (
    LayerType(
        "Dropout",
        "dropout",
        "Every number zero with probability p, the others divided by 1 − p.",
        _ARGUMENTS,
    ),
    *map(_channelwise, SPATIAL_AXES),
    LayerType(
        "AlphaDropout",
        "dropout",
        "Dropout that keeps mean 0 and variance 1 after SELU.",
        _ARGUMENTS,
    ),
    LayerType(
        "FeatureAlphaDropout",
        "dropout",
        "AlphaDropout of whole channels.",
        _ARGUMENTS,
        ranks=(1, None),
    ),
)
