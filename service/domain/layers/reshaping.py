"""Layers that rearrange, enlarge or cut up their input without learning anything."""

from __future__ import annotations

from service.domain.layers.axes import one_axis
from service.domain.layers.kinds import Whole
from service.domain.layers.layer_type import LayerType, Takes
from service.domain.layers.signature import Args, Argument, BadArgument
from service.domain.layers.tensor import Inputs, Shape, elements


def _flatten_shape(args: Args, inputs: Inputs) -> Shape:
    shape = inputs[0].shape
    start = one_axis(args["start_dim"], "start_dim", shape)
    end = one_axis(args["end_dim"], "end_dim", shape)
    if start > end:
        raise BadArgument("start_dim", "`start_dim` comes after `end_dim`")
    return (*shape[:start], elements(shape[start : end + 1]), *shape[end + 1 :])


RESHAPING_TYPES = (
    LayerType(
        "Flatten",
        "reshaping",
        "The dimensions start_dim … end_dim made one.",
        (
            Argument("start_dim", Whole(-16, 16), 1),
            Argument("end_dim", Whole(-16, 16), -1),
        ),
        output=_flatten_shape,
        ranks=(1, None),
        takes=Takes.ANY,
    ),
)
