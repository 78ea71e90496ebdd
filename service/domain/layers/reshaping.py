"""Layers that rearrange, enlarge or cut up their input without learning anything."""

from __future__ import annotations

import math
from typing import Any

from service.domain.layers.axes import SPATIAL_AXES, one_axis
from service.domain.layers.kinds import Choice, Each, Either, Flag, Real, Whole, optional, sides
from service.domain.layers.layer_type import LayerType, Takes
from service.domain.layers.signature import Args, Argument, BadArgument
from service.domain.layers.tensor import Inputs, Misfit, Shape, elements, listed, per_side

_DIM = Whole(-16, 16)
_INTERPOLATING = {"linear": 2, "bilinear": 3, "bicubic": 3, "trilinear": 4}
"""Modes that work for one rank only, per sample; these know align_corners."""


def _flatten_shape(args: Args, inputs: Inputs) -> Shape:
    shape = inputs[0].shape
    start = one_axis(args["start_dim"], "start_dim", shape)
    end = one_axis(args["end_dim"], "end_dim", shape)
    if start > end:
        raise BadArgument("start_dim", "`start_dim` comes after `end_dim`")
    return (*shape[:start], elements(shape[start : end + 1]), *shape[end + 1 :])


def _check_unflatten(args: Args) -> None:
    if list(args["unflattened_size"]).count(-1) > 1:
        raise BadArgument("unflattened_size", "only one size may be -1")
    if 0 in args["unflattened_size"]:
        raise BadArgument("unflattened_size", "no size may be 0")


def _unflatten_shape(args: Args, inputs: Inputs) -> Shape:
    shape = inputs[0].shape
    axis = one_axis(args["dim"], "dim", shape)
    known = math.prod(size for size in args["unflattened_size"] if size != -1)
    rest, left_over = divmod(shape[axis], known)
    if left_over or (-1 not in args["unflattened_size"] and rest != 1):
        takes = f"{known} numbers to arrange as {listed(args['unflattened_size'])}"
        raise Misfit(takes, str(shape[axis]), argument="unflattened_size")
    sizes = (rest if size == -1 else size for size in args["unflattened_size"])
    return (*shape[:axis], *sizes, *shape[axis + 1 :])


def _shuffled_up(args: Args, inputs: Inputs) -> Shape:
    *others, channels, height, width = inputs[0].shape
    factor = args["upscale_factor"]
    if channels % factor**2:
        takes = f"channels in multiples of {factor**2}"
        raise Misfit(takes, str(channels), argument="upscale_factor")
    return (*others, channels // factor**2, height * factor, width * factor)


def _shuffled_down(args: Args, inputs: Inputs) -> Shape:
    *others, channels, height, width = inputs[0].shape
    factor = args["downscale_factor"]
    if height % factor or width % factor:
        takes = f"sides in multiples of {factor}"
        raise Misfit(takes, listed((height, width)), argument="downscale_factor")
    return (*others, channels * factor**2, height // factor, width // factor)


def _channels_shuffled(args: Args, inputs: Inputs) -> Shape:
    if inputs[0].shape[0] % args["groups"]:
        takes = f"channels in multiples of {args['groups']}"
        raise Misfit(takes, str(inputs[0].shape[0]), argument="groups")
    return inputs[0].shape


def _size_or_scale(args: Args) -> None:
    if (args["size"] is None) == (args["scale_factor"] is None):
        raise BadArgument("size", "give either `size` or `scale_factor`")


def _check_upsample(args: Args) -> None:
    _size_or_scale(args)
    if args["align_corners"] is not None and args["mode"] not in _INTERPOLATING:
        raise BadArgument("align_corners", f'mode "{args["mode"]}" knows no `align_corners`')
    if args["recompute_scale_factor"] and args["size"] is not None:
        raise BadArgument("recompute_scale_factor", "`size` leaves no scale factor to recompute")


def _upsampled(args: Args, inputs: Inputs) -> Shape:
    channels, *sides_in = inputs[0].shape
    rank = _INTERPOLATING.get(args.get("mode", ""))
    if rank is not None and rank != len(sides_in) + 1:
        takes = f'{rank} dimensions per sample in mode "{args["mode"]}"'
        raise Misfit(takes, listed(inputs[0].shape), argument="mode")
    name = "scale_factor" if args["size"] is None else "size"
    wanted = per_side(args[name], len(sides_in))
    if len(wanted) != len(sides_in):
        takes = f"{len(wanted)} spatial dimensions"
        raise Misfit(takes, str(len(sides_in)), argument=name)
    if name == "size":
        return (channels, *wanted)
    scaled = [math.floor(float(n) * s) for n, s in zip(sides_in, wanted, strict=True)]
    if min(scaled) < 1:
        raise Misfit("an input that its scale leaves something of", listed(sides_in), argument=name)
    return (channels, *scaled)


def _window_counts(args: Args, size: tuple[int, ...]) -> tuple[int, ...]:
    """Positions of a window on each side; at most 0 where it does not fit."""
    columns = (per_side(args[name], 2) for name in ("kernel_size", "dilation", "padding", "stride"))
    return tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in zip(size, *columns, strict=True)
    )


def _unfolded(args: Args, inputs: Inputs) -> Shape:
    channels, *size = inputs[0].shape
    counts = _window_counts(args, tuple(size))
    if min(counts) < 1:
        raise Misfit("an input no smaller than its kernel", listed(size), argument="kernel_size")
    return (channels * elements(per_side(args["kernel_size"], 2)), elements(counts))


def _check_fold(args: Args) -> None:
    if min(_window_counts(args, per_side(args["output_size"], 2))) < 1:
        raise BadArgument("kernel_size", "the kernel is larger than `output_size`")


def _folded(args: Args, inputs: Inputs) -> Shape:
    columns, blocks = inputs[0].shape
    size = per_side(args["output_size"], 2)
    window = elements(per_side(args["kernel_size"], 2))
    if columns % window:
        takes = f"features in multiples of {window}"
        raise Misfit(takes, str(columns), argument="kernel_size")
    count = elements(_window_counts(args, size))
    if blocks != count:
        raise Misfit(f"{count} blocks", str(blocks), argument="output_size")
    return (columns // window, *size)


_SLIDING = (
    Argument("kernel_size", sides(2)),
    Argument("dilation", sides(2), 1),
    Argument("padding", sides(2, 0), 0),
    Argument("stride", sides(2), 1),
)
_FACTOR = Real(above=0, high=10_000)


def _either(item: Any, counts: tuple[int, ...]) -> Either:
    return Either((item, Each(item, counts)))


def _upsampling(name: str, how: str) -> LayerType:
    return LayerType(
        name,
        "reshaping",
        f"An image enlarged {how}, to a size or by a factor.",
        (
            Argument("size", optional(sides(2)), None),
            Argument("scale_factor", optional(_either(_FACTOR, (2,))), None),
        ),
        output=_upsampled,
        check=_size_or_scale,
        ranks=(3, 3),
        axes=SPATIAL_AXES[2],
    )


RESHAPING_TYPES = (
    LayerType(
        "Flatten",
        "reshaping",
        "The dimensions start_dim … end_dim made one.",
        (Argument("start_dim", _DIM, 1), Argument("end_dim", _DIM, -1)),
        output=_flatten_shape,
        ranks=(1, None),
        takes=Takes.ANY,
    ),
    LayerType(
        "Unflatten",
        "reshaping",
        "One dimension made several; one size may be -1.",
        (
            Argument("dim", _DIM),
            Argument("unflattened_size", Each(Whole(-1), tuple(range(1, 9)))),
        ),
        output=_unflatten_shape,
        check=_check_unflatten,
        ranks=(1, None),
        takes=Takes.ANY,
    ),
    LayerType(
        "PixelShuffle",
        "reshaping",
        "Channels rearranged into pixels: a sub-pixel convolution's second half.",
        (Argument("upscale_factor", Whole(1, 10_000)),),
        output=_shuffled_up,
        ranks=(3, None),
    ),
    LayerType(
        "PixelUnshuffle",
        "reshaping",
        "Pixels rearranged into channels.",
        (Argument("downscale_factor", Whole(1, 10_000)),),
        output=_shuffled_down,
        ranks=(3, None),
    ),
    LayerType(
        "ChannelShuffle",
        "reshaping",
        "Channels of different groups interleaved.",
        (Argument("groups", Whole()),),
        output=_channels_shuffled,
        ranks=(2, None),
    ),
    LayerType(
        "Upsample",
        "reshaping",
        "The spatial dimensions enlarged, to a size or by a factor.",
        (
            Argument("size", optional(_either(Whole(), (1, 2, 3))), None),
            Argument("scale_factor", optional(_either(_FACTOR, (1, 2, 3))), None),
            Argument(
                "mode", Choice(("nearest", "nearest-exact", "area", *_INTERPOLATING)), "nearest"
            ),
            Argument("align_corners", optional(Flag()), None),
            Argument("recompute_scale_factor", optional(Flag()), None),
        ),
        output=_upsampled,
        check=_check_upsample,
        ranks=(2, 4),
        axes="(channels, …)",
    ),
    _upsampling("UpsamplingNearest2d", "by repeating pixels"),
    _upsampling("UpsamplingBilinear2d", "by bilinear interpolation, corners aligned"),
    LayerType(
        "Unfold",
        "reshaping",
        "Every window of an image as a column (im2col).",
        _SLIDING,
        output=_unfolded,
        ranks=(3, 3),
        axes=SPATIAL_AXES[2],
    ),
    LayerType(
        "Fold",
        "reshaping",
        "Columns added up as windows of an image (col2im).",
        (Argument("output_size", sides(2)), *_SLIDING),
        output=_folded,
        check=_check_fold,
        ranks=(2, 2),
        axes="(features, blocks)",
    ),
)
