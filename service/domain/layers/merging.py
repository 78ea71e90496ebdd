"""The types that torch.nn lacks: merges of several inputs, LastStep and Scale."""

from __future__ import annotations

from service.domain.layers.axes import one_axis
from service.domain.layers.kinds import Real, Whole
from service.domain.layers.layer_type import LayerType, Takes
from service.domain.layers.signature import Args, Argument
from service.domain.layers.tensor import Inputs, Misfit, Shape, listed


def _broadcast(first: Shape, second: Shape, position: int) -> Shape:
    """Sizes alike or 1. Equal ranks only: with fewer dimensions torch would align one tensor's
    batch with another dimension of the other.
    """
    fits = len(first) == len(second) and all(
        a == b or 1 in (a, b) for a, b in zip(first, second, strict=True)
    )
    if not fits:
        takes = f"inputs of one shape, {listed(first)} like the first,"
        raise Misfit(takes, listed(second), position=position)
    return tuple(b if a == 1 else a for a, b in zip(first, second, strict=True))


def _one_dtype(inputs: Inputs) -> None:
    for position, tensor in enumerate(inputs):
        if tensor.dtype != inputs[0].dtype:
            raise Misfit(f"{inputs[0].dtype} like its first input", tensor.dtype, position=position)


def _elementwise_shape(_args: Args, inputs: Inputs) -> Shape:
    shape = inputs[0].shape
    for position, tensor in enumerate(inputs[1:], start=1):
        shape = _broadcast(shape, tensor.shape, position)
    return shape


def _concat_shape(args: Args, inputs: Inputs) -> Shape:
    _one_dtype(inputs)
    first = inputs[0].shape
    axis = one_axis(args["dim"], "dim", first)
    for position, tensor in enumerate(inputs):
        others = (*tensor.shape[:axis], *tensor.shape[axis + 1 :])
        if len(tensor.shape) != len(first) or others != (*first[:axis], *first[axis + 1 :]):
            takes = f"inputs alike but for dimension {args['dim']}, {listed(first)} like the first,"
            raise Misfit(takes, listed(tensor.shape), position=position)
    joined = sum(tensor.shape[axis] for tensor in inputs)
    return (*first[:axis], joined, *first[axis + 1 :])


def _matmul_shape(_args: Args, inputs: Inputs) -> Shape:
    first, second = inputs[0].shape, inputs[1].shape
    if first[-1] != second[-2]:
        takes = f"{first[-1]} rows in its second input, the columns of the first,"
        raise Misfit(takes, str(second[-2]), position=1)
    return (*_broadcast(first[:-2], second[:-2], 1), first[-2], second[-1])


MERGING_TYPES = (
    LayerType(
        "Add",
        "merge",
        "Sum of its inputs (a residual connection).",
        output=_elementwise_shape,
        input_counts=None,
    ),
    LayerType(
        "Multiply",
        "merge",
        "Product of its inputs, number by number (a gate).",
        output=_elementwise_shape,
        input_counts=None,
    ),
    LayerType(
        "Concat",
        "merge",
        "Its inputs joined along dim (1: features or channels).",
        (Argument("dim", Whole(-16, 16), 1),),
        output=_concat_shape,
        input_counts=None,
        ranks=(1, None),
        takes=Takes.ANY,
    ),
    LayerType(
        "MatMul",
        "merge",
        "Matrix product of two inputs over their last two dimensions.",
        output=_matmul_shape,
        input_counts=(2,),
        ranks=(2, None),
    ),
    LayerType(
        "LastStep",
        "merge",
        "The last time step, x[:, -1].",
        output=lambda _args, inputs: inputs[0].shape[1:],
        ranks=(2, None),
        axes="(time, features …)",
        takes=Takes.ANY,
    ),
    LayerType(
        "Scale",
        "merge",
        "factor·x + offset, with numbers that are not learned.",
        (Argument("factor", Real(), 1.0), Argument("offset", Real(), 0.0)),
    ),
)
