"""Keras layers with a kernel: Dense, convolutions, Embedding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from service.domain.keras.activations import activate
from service.domain.keras.step import Step

_ZEROS = "zeros"
_GLOROT = "glorot_uniform"


def dense(step: Step) -> None:
    """Dense works on the last axis: on images that is a convolution with a kernel of one."""
    units, shape = step.whole("units"), step.flow.tensor.shape
    spatial = len(shape) - 1
    if step.flow.first and spatial:
        fan_in = shape[0]
        init = _inits(step, fan_in, units)
        args = {"out_channels": units, "kernel_size": 1, "bias": "bias" in init}
        step.add(f"Conv{spatial}d", args, init)
    else:
        init = _inits(step, shape[-1] if shape else 1, units)
        step.add("Linear", {"out_features": units, "bias": "bias" in init}, init)
    activate(step, step.option("activation", None))


def _inits(
    step: Step,
    fan_in: float,
    fan_out: float,
    kernel: str = "kernel_initializer",
    *,
    own_fans: bool = False,
    bias: bool = True,
) -> dict[str, Any]:
    init = {"weight": step.init(kernel, _GLOROT, fan_in, fan_out, own_fans=own_fans)}
    if bias and step.option("use_bias", True):
        init["bias"] = step.init("bias_initializer", _ZEROS, fan_out, fan_out)
    return init


def convolution(count: int) -> Any:
    """ConvND."""

    def translate(step: Step) -> None:
        filters, groups = step.whole("filters"), step.whole("groups", 1)
        kernel = step.sides("kernel_size", count)
        if count == 1 and not step.flow.first:
            _over_features_last(step, filters, kernel[0])
            return
        channels = channels_of(step, count)
        field = math.prod(kernel)
        init = _inits(step, field * channels / groups, field * filters)
        args = {"out_channels": filters, "kernel_size": kernel, "groups": groups}
        _convolve(step, count, kernel, {**args, "bias": "bias" in init}, init)
        activate(step, step.option("activation", None))

    return translate


def _over_features_last(step: Step, filters: int, kernel: int) -> None:
    """Conv1D of a sequence with its features last, as a convolution over an image of one channel
    whose rows are the time steps."""
    time, features = step.flow.tensor.shape
    if step.whole("groups", 1) != 1:
        raise step.refused("groups over a sequence are not supported", "groups")
    stride, dilation = step.sides("strides", 1)[0], step.sides("dilation_rate", 1)[0]
    init = _inits(step, kernel * features, kernel * filters)
    before, after = _padding(step, time, kernel, stride, dilation)
    step.add("Unflatten", {"dim": 1, "unflattened_size": [1, time]}, suffix="image", first=True)
    if before or after:
        step.add("ZeroPad2d", {"padding": [0, 0, before, after]}, suffix="pad")
    args = {
        "out_channels": filters,
        "kernel_size": [kernel, features],
        "stride": [stride, 1],
        "dilation": [dilation, 1],
        "bias": "bias" in init,
    }
    step.add("Conv2d", args, init)
    step.add("Flatten", {"start_dim": 2}, suffix="sequence", first=True)
    activate(step, step.option("activation", None))


def channels_of(step: Step, count: int) -> int:
    """Channels of what flows in, which must have `count` sides and channels first."""
    shape = step.flow.tensor.shape
    if len(shape) != count + 1 or not step.flow.first:
        raise step.refused(
            f"it takes {count} spatial sides with channels, but gets {list(shape)}"
            + ("" if step.flow.first else " with features last, which cannot be moved in a spec")
        )
    return shape[0]


def _convolve(
    step: Step, count: int, kernel: Sequence[int], args: dict[str, Any], init: dict[str, Any]
) -> None:
    strides, dilation = step.sides("strides", count), step.sides("dilation_rate", count)
    args = {**args, "stride": strides, "dilation": dilation}
    if step.option("padding", "valid") == "same" and set(strides) == {1}:
        step.add(f"Conv{count}d", {**args, "padding": "same"}, init)
        return
    pad_to_fit(step, count, kernel, strides, dilation)
    step.add(f"Conv{count}d", args, init)


def pad_to_fit(
    step: Step,
    count: int,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
) -> None:
    """The zeros that Keras puts around for "same" and "causal"."""
    sides = step.flow.tensor.shape[1:]
    pads = [
        _padding(step, n, k, s, d)
        for n, k, s, d in zip(sides, kernel, strides, dilation, strict=True)
    ]
    if any(map(any, pads)):
        flat = [amount for pair in reversed(pads) for amount in pair]
        step.add(f"ZeroPad{count}d", {"padding": flat}, suffix="pad")


def _padding(step: Step, side: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Zeros before and after one side."""
    mode = step.option("padding", "valid")
    if mode == "valid":
        return 0, 0
    if mode == "causal":
        return dilation * (kernel - 1), 0
    if mode == "same":
        total = max((-(-side // stride) - 1) * stride + dilation * (kernel - 1) + 1 - side, 0)
        return total // 2, total - total // 2
    raise step.refused(f"`padding` {mode!r} is not supported", "padding")


def depthwise(count: int) -> Any:
    """DepthwiseConvND: every channel has kernels of its own."""

    def translate(step: Step) -> None:
        _depthwise(step, count, "")
        activate(step, step.option("activation", None))

    return translate


def _depthwise(step: Step, count: int, suffix: str) -> None:
    kernel, channels = step.sides("kernel_size", count), channels_of(step, count)
    multiplier, field = step.whole("depth_multiplier", 1), math.prod(kernel)
    init = _inits(
        step,
        field * channels,
        field * multiplier,
        "depthwise_initializer",
        own_fans=True,
        bias=not suffix,
    )
    args = {
        "out_channels": channels * multiplier,
        "kernel_size": kernel,
        "groups": channels,
        "bias": "bias" in init,
    }
    strides, dilation = step.sides("strides", count), step.sides("dilation_rate", count)
    pad_to_fit(step, count, kernel, strides, dilation)
    args |= {"stride": strides, "dilation": dilation}
    step.add(f"Conv{count}d", args, init, suffix=suffix)


def separable(count: int) -> Any:
    """SeparableConvND: depthwise, then across channels."""

    def translate(step: Step) -> None:
        _depthwise(step, count, "depthwise")
        filters = step.whole("filters")
        init = _inits(step, step.flow.tensor.shape[0], filters, "pointwise_initializer")
        args = {"out_channels": filters, "kernel_size": 1, "bias": "bias" in init}
        step.add(f"Conv{count}d", args, init)
        activate(step, step.option("activation", None))

    return translate


def transposed(count: int) -> Any:
    """ConvNDTranspose: torch's without padding, then cut (or filled up) as Keras does."""

    def translate(step: Step) -> None:
        if step.option("output_padding", None) is not None:
            raise step.refused("it is not supported", "output_padding")
        filters, kernel = step.whole("filters"), step.sides("kernel_size", count)
        strides, dilation = step.sides("strides", count), step.sides("dilation_rate", count)
        if set(dilation) != {1}:
            raise step.refused("dilation is not supported", "dilation_rate")
        mode = step.option("padding", "valid")
        if mode not in ("valid", "same"):
            raise step.refused(f"`padding` {mode!r} is not supported", "padding")
        channels, field = channels_of(step, count), math.prod(kernel)
        init = _inits(step, field * filters, field * channels)
        args = {"out_channels": filters, "kernel_size": kernel, "stride": strides}
        step.add(f"ConvTranspose{count}d", {**args, "bias": "bias" in init}, init)
        spare = [k - s for k, s in zip(kernel, strides, strict=True)]
        if mode == "same" and any(spare):
            if min(spare) < 0:
                raise step.refused("a kernel smaller than its stride is not supported", "strides")
            flat = [cut for one in reversed(spare) for cut in (-(one // 2), -(one - one // 2))]
            step.add(f"ZeroPad{count}d", {"padding": flat}, suffix="cut")
        activate(step, step.option("activation", None))

    return translate


def embedding(step: Step) -> None:
    """Embedding."""
    rows, width = step.whole("input_dim"), step.whole("output_dim")
    if step.option("mask_zero", False):
        step.note("mask_zero is not translated: index 0 is a token like others")
    init = {"weight": step.init("embeddings_initializer", "random_uniform", rows, width)}
    args = {"num_embeddings": rows, "embedding_dim": width}
    step.add("Embedding", args, init, first=False)
