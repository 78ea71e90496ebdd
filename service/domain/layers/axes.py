"""Dimensions in words, and arguments that name one (PyTorch counts the batch as dimension 0)."""

from __future__ import annotations

from service.domain.layers.signature import BadArgument
from service.domain.layers.tensor import Shape

SPATIAL_AXES = {
    1: "(channels, length)",
    2: "(channels, height, width)",
    3: "(channels, depth, height, width)",
}
"""What a sample's dimensions mean to a layer with so many spatial dimensions."""


def one_axis(dim: int, argument: str, shape: Shape) -> int:
    """The index into a per-sample shape. Raises BadArgument when it is out of range or the batch,
    along which nothing may be mixed or reshaped: the samples are independent.
    """
    rank = len(shape) + 1
    if not -rank <= dim < rank:
        raise BadArgument(
            argument,
            f"`{argument}` {dim} is out of range: with the batch, the input has {rank} dimensions",
        )
    axis = dim % rank
    if axis == 0:
        raise BadArgument(
            argument, f"`{argument}` {dim} is the batch dimension, which stays as it is"
        )
    return axis - 1
