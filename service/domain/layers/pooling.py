"""Pooling layers. MaxUnpool is left out: it needs the indices of another layer.

Side of the output, with input side n, kernel k, stride s, padding p, dilation d, as in the PyTorch
documentation: ⌊(n + 2p − d(k − 1) − 1)/s⌋ + 1; with ceil_mode rounded up, but a window that would
start in the right padding is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from service.domain.layers.axes import SPATIAL_AXES
from service.domain.layers.kinds import Each, Either, Flag, Kind, Real, Whole, optional, sides
from service.domain.layers.layer_type import LayerType
from service.domain.layers.signature import Args, Argument, BadArgument
from service.domain.layers.tensor import Inputs, Misfit, Shape, listed, per_side

_CEIL_MODE = Argument("ceil_mode", Flag(), False)
_RETURN_INDICES = Argument("return_indices", Flag(), False)


def _pooled(args: Args, inputs: Inputs) -> Shape:
    channels, *size = inputs[0].shape
    columns = (
        per_side(value, len(size))
        for value in (
            args["kernel_size"],
            args["kernel_size"] if args["stride"] is None else args["stride"],
            args.get("padding", 0),
            args.get("dilation", 1),
        )
    )
    windows = tuple(
        _windows(*side, ceil_mode=args["ceil_mode"]) for side in zip(size, *columns, strict=True)
    )
    if min(windows) < 1:
        raise Misfit("an input no smaller than its kernel", listed(size), argument="kernel_size")
    return (channels, *windows)


def _mean_pooled(args: Args, inputs: Inputs) -> Shape:
    """In three dimensions torch wants the bare input no smaller than the kernel."""
    size = inputs[0].shape[1:]
    kernel = per_side(args["kernel_size"], len(size))
    if len(size) == 3 and any(k > n for n, k in zip(size, kernel, strict=True)):
        raise Misfit("an input no smaller than its kernel", listed(size), argument="kernel_size")
    return _pooled(args, inputs)


def _windows(n: int, k: int, s: int, p: int, d: int, *, ceil_mode: bool) -> int:
    reach = n + 2 * p - d * (k - 1) - 1
    if reach < 0 and not ceil_mode:
        return 0
    count = (reach + (s - 1 if ceil_mode else 0)) // s + 1
    return count - 1 if ceil_mode and (count - 1) * s >= n + p else count


def _check_padding(count: int) -> Callable[[Args], None]:
    def check(args: Args) -> None:
        kernel = per_side(args["kernel_size"], count)
        padding = per_side(args["padding"], count)
        dilation = per_side(args.get("dilation", 1), count)
        # torch counts the gaps of a dilated kernel in two dimensions only
        reach = (
            d * (k - 1) + 1 if count == 2 else k for k, d in zip(kernel, dilation, strict=True)
        )
        if any(p > r // 2 for p, r in zip(padding, reach, strict=True)):
            raise BadArgument("padding", "`padding` must be at most half of the kernel")

    return check


def _stride(count: int) -> Argument:
    return Argument("stride", optional(sides(count)), None)


def _spatial(
    name: str, count: int, summary: str, arguments: tuple[Argument, ...], **rules: Any
) -> LayerType:
    """A pooling layer over (channels, …)."""
    return LayerType(
        f"{name}{count}d",
        "pooling",
        summary,
        arguments,
        ranks=(count + 1, count + 1),
        axes=SPATIAL_AXES[count],
        **rules,
    )


def _max_pool(count: int) -> LayerType:
    return _spatial(
        "MaxPool",
        count,
        "The largest number of every window.",
        (
            Argument("kernel_size", sides(count)),
            _stride(count),
            Argument("padding", sides(count, 0), 0),
            Argument("dilation", sides(count), 1),
            _RETURN_INDICES,
            _CEIL_MODE,
        ),
        output=_pooled,
        check=_check_padding(count),
    )


def _avg_pool(count: int) -> LayerType:
    divisor = (Argument("divisor_override", optional(Whole()), None),) if count > 1 else ()
    return _spatial(
        "AvgPool",
        count,
        "The mean of every window.",
        (
            Argument("kernel_size", sides(count)),
            _stride(count),
            Argument("padding", sides(count, 0), 0),
            _CEIL_MODE,
            Argument("count_include_pad", Flag(), True),
            *divisor,
        ),
        output=_mean_pooled,
        check=_check_padding(count),
    )


def _check_norm(args: Args) -> None:
    if args["norm_type"] == 0:
        raise BadArgument("norm_type", "`norm_type` must not be 0")


def _lp_pool(count: int) -> LayerType:
    kernel: Kind = Whole() if count == 1 else sides(count)
    return _spatial(
        "LPPool",
        count,
        "The p-norm of every window, p being norm_type.",
        (
            Argument("norm_type", Real()),
            Argument("kernel_size", kernel),
            _stride(count),
            _CEIL_MODE,
        ),
        output=_mean_pooled,
        check=_check_norm,
    )


def _adapted(args: Args, inputs: Inputs) -> Shape:
    channels, *size = inputs[0].shape
    wanted = per_side(args["output_size"], len(size))
    return (channels, *(n if w is None else w for n, w in zip(size, wanted, strict=True)))


def _adaptive(kind: str, count: int) -> LayerType:
    side: Kind = Whole() if count == 1 else optional(Whole())
    what = {"Avg": "mean", "Max": "largest number"}[kind]
    return _spatial(
        f"Adaptive{kind}Pool",
        count,
        f"The {what} of windows chosen so that the output has output_size; null keeps a side.",
        (
            Argument("output_size", Either((Whole(), Each(side, (count,))))),
            *((_RETURN_INDICES,) if kind == "Max" else ()),
        ),
        output=_adapted,
    )


def _one_of_two(args: Args) -> None:
    if (args["output_size"] is None) == (args["output_ratio"] is None):
        raise BadArgument("output_size", "give either `output_size` or `output_ratio`")
    ratio = args["output_ratio"]
    if ratio is not None and any(r >= 1 for r in per_side(ratio, 1)):
        raise BadArgument("output_ratio", "`output_ratio` must be below 1")


def _fractional_shape(args: Args, inputs: Inputs) -> Shape:
    channels, *size = inputs[0].shape
    if args["output_size"] is not None:
        wanted = per_side(args["output_size"], len(size))
    else:
        ratios = per_side(args["output_ratio"], len(size))
        wanted = tuple(int(n * r) for n, r in zip(size, ratios, strict=True))
    kernel = per_side(args["kernel_size"], len(size))
    if min(wanted) < 1:
        raise Misfit("an input that its ratio leaves something of", listed(size))
    spare = len(size) - 2  # torch asks for one pixel more in three dimensions than in two
    least = [w + k - 1 + spare for w, k in zip(wanted, kernel, strict=True)]
    if any(m > n for n, m in zip(size, least, strict=True)):
        raise Misfit(f"at least {listed(least)} pixels", listed(size), argument="kernel_size")
    return (channels, *wanted)


def _fractional(count: int) -> LayerType:
    ratio = Real(above=0, high=1)
    return _spatial(
        "FractionalMaxPool",
        count,
        "The largest number of windows of random size (Graham 2014).",
        (
            Argument("kernel_size", sides(count)),
            Argument("output_size", optional(sides(count)), None),
            Argument("output_ratio", optional(Either((ratio, Each(ratio, (count,))))), None),
            _RETURN_INDICES,
        ),
        output=_fractional_shape,
        check=_one_of_two,
    )


POOLING_TYPES = (
    *map(_max_pool, SPATIAL_AXES),
    *map(_avg_pool, SPATIAL_AXES),
    *map(_lp_pool, SPATIAL_AXES),
    *(_adaptive(kind, count) for kind in ("Avg", "Max") for count in SPATIAL_AXES),
    *map(_fractional, (2, 3)),
)
