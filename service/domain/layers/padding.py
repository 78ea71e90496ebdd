"""Padding layers. Padding is listed from the last dimension backwards: left, right, top, bottom …;
a negative one cuts away.
"""

from __future__ import annotations

from collections.abc import Callable

from service.domain.layers.axes import SPATIAL_AXES
from service.domain.layers.kinds import MAX_SIZE, Each, Either, Real, Whole
from service.domain.layers.layer_type import LayerType
from service.domain.layers.signature import Args, Argument
from service.domain.layers.tensor import Inputs, Misfit, Shape, listed

_SUMMARIES = {
    "Constant": "Borders filled with one value.",
    "Zero": "Borders filled with zeros.",
    "Reflection": "Borders filled with the input mirrored, the edge not repeated.",
    "Replication": "Borders filled with the edge.",
    "Circular": "Borders filled with the opposite side.",
}
_SPARE = {"Reflection": 1, "Circular": 0}
"""How many more pixels than padding a side must have."""


def _shape_rule(kind: str, count: int) -> Callable[[Args, Inputs], Shape]:
    def rule(args: Args, inputs: Inputs) -> Shape:
        shape = list(inputs[0].shape)
        given = args["padding"]
        padding = list(given) if isinstance(given, list | tuple) else [given] * (2 * count)
        for axis, (left, right) in enumerate(zip(padding[::2], padding[1::2], strict=True), 1):
            side = shape[-axis]
            if kind in _SPARE and max(left, right) + _SPARE[kind] > side:
                least = max(left, right) + _SPARE[kind]
                takes = f"at least {least} pixels on every side that it pads"
                raise Misfit(takes, f"{side}: {listed(inputs[0].shape)}", argument="padding")
            shape[-axis] = side + left + right
            if side + min(left, 0) + min(right, 0) < 1:
                takes = "more pixels than its negative padding cuts away"
                raise Misfit(takes, listed(inputs[0].shape), argument="padding")
        return tuple(shape)

    return rule


def _padding(kind: str, count: int) -> LayerType:
    amount = Whole(-MAX_SIZE)
    value = (Argument("value", Real()),) if kind == "Constant" else ()
    any_rank = kind in ("Constant", "Zero")
    return LayerType(
        f"{kind}Pad{count}d",
        "padding",
        _SUMMARIES[kind],
        (Argument("padding", Either((amount, Each(amount, (2 * count,))))), *value),
        output=_shape_rule(kind, count),
        ranks=(count, None) if any_rank else (count + 1, count + 1),
        axes="" if any_rank else SPATIAL_AXES[count],
    )


PADDING_TYPES = tuple(_padding(kind, count) for kind in _SUMMARIES for count in SPATIAL_AXES)
