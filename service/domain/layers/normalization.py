"""Normalization layers. SyncBatchNorm is left out: it needs several processes."""

from __future__ import annotations

from service.domain.layers.axes import SPATIAL_AXES
from service.domain.layers.inference import first_size, trailing_sizes
from service.domain.layers.kinds import Each, Either, Flag, Kind, Real, Whole, optional
from service.domain.layers.layer_type import LayerType
from service.domain.layers.signature import Args, Argument, BadArgument
from service.domain.layers.tensor import Inputs, Misfit, Shape, elements, listed

_NORMALIZED_SHAPE = Argument(
    "normalized_shape",
    Either((Whole(), Each(Whole(), tuple(range(1, 9))))),
    infer=trailing_sizes(),
    unit="features",
)


def _scale_and_shift(args: Args, sizes: Shape, switch: str) -> dict[str, Shape]:
    if not args[switch]:
        return {}
    return {"weight": sizes} | ({"bias": sizes} if args.get("bias") else {})


def _running(affine: bool, track: bool, momentum: Kind) -> tuple[Argument, ...]:
    return (
        Argument("eps", Real(above=0), 1e-5),
        Argument("momentum", momentum, 0.1),
        Argument("affine", Flag(), affine),
        Argument("track_running_stats", Flag(), track),
        Argument("bias", Flag(), True),
    )


def _channels(count: int) -> Argument:
    unit = "features" if count == 1 else "channels"
    return Argument("num_features", Whole(), infer=first_size(), unit=unit)


def _batch_norm(count: int) -> LayerType:
    return LayerType(
        f"BatchNorm{count}d",
        "normalization",
        "Every channel to mean 0 and variance 1 over the batch, then a learned scale and shift.",
        (_channels(count), *_running(True, True, optional(Real(0, 1)))),
        parameters=lambda args: _scale_and_shift(args, (args["num_features"],), "affine"),
        ranks=(1 if count == 1 else count + 1, count + 1),
        axes="(features) or (channels, length)" if count == 1 else SPATIAL_AXES[count],
    )


def _instance_shape(_args: Args, inputs: Inputs) -> Shape:
    shape = inputs[0].shape
    if elements(shape[1:]) < 2:
        raise Misfit("more than one pixel per channel to normalize over", listed(shape))
    return shape


def _instance_norm(count: int) -> LayerType:
    return LayerType(
        f"InstanceNorm{count}d",
        "normalization",
        "Every channel of every sample to mean 0 and variance 1.",
        (_channels(count), *_running(False, False, Real(0, 1))),
        output=_instance_shape,
        parameters=lambda args: _scale_and_shift(args, (args["num_features"],), "affine"),
        ranks=(count + 1, count + 1),
        axes=SPATIAL_AXES[count],
    )


def _normalized_sizes(args: Args) -> Shape:
    sizes = args["normalized_shape"]
    return tuple(sizes) if isinstance(sizes, list | tuple) else (sizes,)


def _check_groups(args: Args) -> None:
    channels, groups = args.get("num_channels"), args["num_groups"]
    if channels is not None and channels % groups:
        raise BadArgument("num_groups", f"`num_groups` {groups} must divide {channels} channels")


LAYER_NORM = LayerType(
    "LayerNorm",
    "normalization",
    "The trailing dimensions to mean 0 and variance 1, then a learned scale and shift.",
    (
        _NORMALIZED_SHAPE,
        Argument("eps", Real(0), 1e-5),
        Argument("elementwise_affine", Flag(), True),
        Argument("bias", Flag(), True),
    ),
    parameters=lambda args: _scale_and_shift(args, _normalized_sizes(args), "elementwise_affine"),
    ranks=(1, None),
)
RMS_NORM = LayerType(
    "RMSNorm",
    "normalization",
    "The trailing dimensions divided by their root mean square, then a learned scale.",
    (
        _NORMALIZED_SHAPE,
        Argument("eps", optional(Real(0)), None),
        Argument("elementwise_affine", Flag(), True),
    ),
    parameters=lambda args: _scale_and_shift(args, _normalized_sizes(args), "elementwise_affine"),
    ranks=(1, None),
)

NORMALIZATION_TYPES = (
    *map(_batch_norm, SPATIAL_AXES),
    *map(_instance_norm, SPATIAL_AXES),
    LAYER_NORM,
    RMS_NORM,
    LayerType(
        "GroupNorm",
        "normalization",
        "Groups of channels of every sample to mean 0 and variance 1.",
        (
            Argument("num_groups", Whole()),
            Argument("num_channels", Whole(), infer=first_size(), unit="channels"),
            Argument("eps", Real(0), 1e-5),
            Argument("affine", Flag(), True),
            Argument("bias", Flag(), True),
        ),
        parameters=lambda args: _scale_and_shift(args, (args["num_channels"],), "affine"),
        check=_check_groups,
        ranks=(1, None),
    ),
    LayerType(
        "LocalResponseNorm",
        "normalization",
        "Every number divided by a power of the squares in neighbouring channels.",
        (
            Argument("size", Whole()),
            Argument("alpha", Real(), 1e-4),
            Argument("beta", Real(), 0.75),
            Argument("k", Real(), 1.0),
        ),
        ranks=(2, None),
    ),
)
