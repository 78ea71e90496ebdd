"""Numbers that are learned and do not depend on the input: places, class tokens, scales."""

from __future__ import annotations

from service.domain.layers.kinds import Each, Whole
from service.domain.layers.layer_type import LayerType, Takes
from service.domain.layers.signature import Args, Argument
from service.domain.layers.tensor import Inputs, Shape

MAX_RANK = 7
"""Dimensions: with the batch, as many as a sample may have."""


def _size(args: Args, _inputs: Inputs) -> Shape:
    return tuple(args["size"])


PARAMETER_TYPES = (
    LayerType(
        "Parameter",
        "parameter",
        "A torch.nn.Parameter, the same for every sample; of its input only the batch counts.",
        (Argument("size", Each(Whole(), tuple(range(1, MAX_RANK + 1)))),),
        output=_size,
        parameters=lambda args: {"weight": tuple(args["size"])},
        takes=Takes.ANY,
        gives="float32",
        must_init=("weight",),
        reads_input=True,
    ),
)
