"""Convolutions and transposed convolutions over one, two or three spatial dimensions.

Shape rules as in the PyTorch documentation: with input side n, kernel k, stride s, padding p,
dilation d, output padding o,

    convolution             ⌊(n + 2p − d(k − 1) − 1)/s⌋ + 1
    transposed convolution  (n − 1)s − 2p + d(k − 1) + o + 1
"""

from __future__ import annotations

from service.domain.layers.axes import SPATIAL_AXES
from service.domain.layers.inference import first_size
from service.domain.layers.kinds import Choice, Either, Flag, Whole, sides
from service.domain.layers.layer_type import LayerType
from service.domain.layers.signature import Args, Argument, BadArgument
from service.domain.layers.tensor import Inputs, Misfit, Shape, listed, per_side


def total_padding(args: Args, count: int) -> tuple[int, ...]:
    """Padding of both ends together, per side."""
    padding = args["padding"]
    if padding == "valid":
        return (0,) * count
    if padding == "same":
        kernel = per_side(args["kernel_size"], count)
        dilation = per_side(args["dilation"], count)
        return tuple(d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
    return tuple(2 * p for p in per_side(padding, count))


def _conv_shape(args: Args, inputs: Inputs) -> Shape:
    size = inputs[0].shape[1:]
    count = len(size)
    padding = total_padding(args, count)
    _check_room(args, size, padding)
    kernel, stride, dilation = (
        per_side(args[name], count) for name in ("kernel_size", "stride", "dilation")
    )
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    padded = tuple(n + p for n, p in zip(size, padding, strict=True))
    if any(r > n for r, n in zip(reach, padded, strict=True)):
        takes = f"a padded input of at least {listed(reach)}"
        raise Misfit(takes, listed(padded), argument="kernel_size")
    sides_out = ((n - r) // s + 1 for n, r, s in zip(padded, reach, stride, strict=True))
    return (args["out_channels"], *sides_out)


def _check_room(args: Args, size: Shape, padding: tuple[int, ...]) -> None:
    """reflect needs more pixels than it pads, circular as many."""
    spare = {"reflect": 1, "circular": 0}.get(args["padding_mode"])
    if spare is None:
        return
    longer = tuple((p + 1) // 2 + spare for p in padding)
    if any(n < least for n, least in zip(size, longer, strict=True)):
        takes = f"at least {listed(longer)} pixels to pad by {args['padding_mode']}"
        raise Misfit(takes, listed(size), argument="padding")


def _transpose_shape(args: Args, inputs: Inputs) -> Shape:
    size = inputs[0].shape[1:]
    columns = (
        per_side(args[name], len(size))
        for name in ("kernel_size", "stride", "padding", "output_padding", "dilation")
    )
    out = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1
        for n, k, s, p, o, d in zip(size, *columns, strict=True)
    )
    if min(out) < 1:
        takes = f"more than its padding cuts away (the output would be {listed(out)})"
        raise Misfit(takes, listed(size), argument="padding")
    return (args["out_channels"], *out)


def _check_groups(args: Args) -> None:
    for name in ("in_channels", "out_channels"):
        if name in args and args[name] % args["groups"]:
            raise BadArgument(
                "groups", f"`groups` {args['groups']} must divide `{name}` {args[name]}"
            )


def _check_conv(args: Args) -> None:
    _check_groups(args)
    stride = args["stride"]
    strides = stride if isinstance(stride, list | tuple) else (stride,)
    if args["padding"] == "same" and any(s != 1 for s in strides):
        raise BadArgument("padding", '`padding` "same" needs `stride` 1')


def _check_transpose(count: int, args: Args) -> None:
    _check_groups(args)
    stride, dilation, extra = (
        per_side(args[name], count) for name in ("stride", "dilation", "output_padding")
    )
    if any(o >= max(s, d) for s, d, o in zip(stride, dilation, extra, strict=True)):
        raise BadArgument(
            "output_padding", "`output_padding` must be smaller than `stride` or `dilation`"
        )


def _parameters(args: Args, weight: Shape) -> dict[str, Shape]:
    return {"weight": weight} | ({"bias": (args["out_channels"],)} if args["bias"] else {})


def _conv(count: int) -> LayerType:
    def parameters(args: Args) -> dict[str, Shape]:
        kernel = per_side(args["kernel_size"], count)
        return _parameters(
            args, (args["out_channels"], args["in_channels"] // args["groups"], *kernel)
        )

    return LayerType(
        f"Conv{count}d",
        "convolution",
        f"Cross-correlation with learned kernels over {count} spatial dimension(s).",
        (
            Argument("in_channels", Whole(), infer=first_size(), unit="channels"),
            Argument("out_channels", Whole()),
            Argument("kernel_size", sides(count)),
            Argument("stride", sides(count), 1),
            Argument("padding", Either((sides(count, 0), Choice(("same", "valid")))), 0),
            Argument("dilation", sides(count), 1),
            Argument("groups", Whole(), 1),
            Argument("bias", Flag(), True),
            Argument(
                "padding_mode", Choice(("zeros", "reflect", "replicate", "circular")), "zeros"
            ),
        ),
        output=_conv_shape,
        parameters=parameters,
        check=_check_conv,
        ranks=(count + 1, count + 1),
        axes=SPATIAL_AXES[count],
    )


def _conv_transpose(count: int) -> LayerType:
    def parameters(args: Args) -> dict[str, Shape]:
        kernel = per_side(args["kernel_size"], count)
        return _parameters(
            args, (args["in_channels"], args["out_channels"] // args["groups"], *kernel)
        )

    return LayerType(
        f"ConvTranspose{count}d",
        "convolution",
        f"The transpose (gradient) of a convolution over {count} spatial dimension(s).",
        (
            Argument("in_channels", Whole(), infer=first_size(), unit="channels"),
            Argument("out_channels", Whole()),
            Argument("kernel_size", sides(count)),
            Argument("stride", sides(count), 1),
            Argument("padding", sides(count, 0), 0),
            Argument("output_padding", sides(count, 0), 0),
            Argument("groups", Whole(), 1),
            Argument("bias", Flag(), True),
            Argument("dilation", sides(count), 1),
            Argument("padding_mode", Choice(("zeros",)), "zeros"),
        ),
        output=_transpose_shape,
        parameters=parameters,
        check=lambda args: _check_transpose(count, args),
        ranks=(count + 1, count + 1),
        axes=SPATIAL_AXES[count],
    )


CONVOLUTION_TYPES = (*map(_conv, SPATIAL_AXES), *map(_conv_transpose, SPATIAL_AXES))
