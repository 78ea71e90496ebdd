"""Keras layers that pool, reshape, scale or drop."""

from __future__ import annotations

import math
from typing import Any

from service.domain.grammar.limits import MAX_INPUTS
from service.domain.keras.kernels import channels_of
from service.domain.keras.step import Step


def pooling(kind: str, count: int) -> Any:
    """MaxPoolingND, AveragePoolingND."""

    def translate(step: Step) -> None:
        window = step.sides("pool_size", count, 2)
        strides = window if step.option("strides", None) is None else step.sides("strides", count)
        if count == 1 and not step.flow.first:
            _pool_features_last(step, kind, window[0], strides[0])
            return
        channels_of(step, count)
        step.add(f"{kind}Pool{count}d", _pooled(step, kind, window, strides))

    return translate


def _pooled(step: Step, kind: str, window: list[int], strides: list[int]) -> dict[str, Any]:
    args: dict[str, Any] = {"kernel_size": window, "stride": strides}
    if step.option("padding", "valid") == "same":
        args |= _same(step, window, strides)
    if kind == "Avg":
        args["count_include_pad"] = False
    return args


def _same(step: Step, window: list[int], strides: list[int]) -> dict[str, Any]:
    """Torch pads both ends alike; what is left over goes to the end by rounding up."""
    sides = step.flow.tensor.shape[1:]
    totals = [
        max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(sides, window, strides, strict=True)
    ]
    odd = any(total % 2 for total in totals)
    return {"padding": [total // 2 for total in totals], "ceil_mode": odd}


def _pool_features_last(step: Step, kind: str, window: int, stride: int) -> None:
    """Over the rows of an image of one channel."""
    time, _ = step.flow.tensor.shape
    step.add("Unflatten", {"dim": 1, "unflattened_size": [1, time]}, suffix="image")
    step.add(f"{kind}Pool2d", _pooled(step, kind, [window, 1], [stride, 1]))
    step.add("Flatten", {"start_dim": 1, "end_dim": 2}, suffix="sequence")


def global_pooling(kind: str, count: int) -> Any:
    """GlobalMaxPoolingND, GlobalAveragePoolingND."""

    def translate(step: Step) -> None:
        if count == 1 and not step.flow.first:
            time, features = step.flow.tensor.shape
            step.add("Unflatten", {"dim": 1, "unflattened_size": [1, time]}, suffix="image")
            step.add(f"Adaptive{kind}Pool2d", {"output_size": [1, features]})
            step.add("Flatten", {}, suffix="flat")
            return
        channels_of(step, count)
        step.add(f"Adaptive{kind}Pool{count}d", {"output_size": 1})
        if not step.option("keepdims", False):
            step.add("Flatten", {}, suffix="flat")

    return translate


def adaptive_pooling(kind: str, count: int) -> Any:
    """AdaptiveMaxPoolingND, AdaptiveAveragePoolingND."""

    def translate(step: Step) -> None:
        channels_of(step, count)
        step.add(f"Adaptive{kind}Pool{count}d", {"output_size": step.sides("output_size", count)})

    return translate


def dropout(step: Step) -> None:
    """Dropout."""
    step.add("Dropout", {"p": _rate(step)})


def spatial_dropout(count: int) -> Any:
    """SpatialDropoutND: whole channels."""

    def translate(step: Step) -> None:
        channels_of(step, count)
        step.add(f"Dropout{count}d", {"p": _rate(step)})

    return translate


def alpha_dropout(step: Step) -> None:
    """AlphaDropout."""
    step.add("AlphaDropout", {"p": _rate(step)})


def _rate(step: Step) -> float:
    if step.option("noise_shape", None) is not None:
        raise step.refused("masks of another shape are not supported", "noise_shape")
    rate = step.option("rate", 0.5)
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise step.refused(f"`rate` must be a number, not {rate!r}", "rate")
    return float(rate)


def flatten(step: Step) -> None:
    """Flatten; images go channel by channel, which only renumbers what follows."""
    step.add("Flatten", {}, first=False)


def reshape(step: Step) -> None:
    """Reshape of a vector."""
    target = step.option("target_shape", None)
    shape = step.flow.tensor.shape
    if not isinstance(target, list) or len(shape) != 1 or not target:
        raise step.refused("only a vector can be reshaped", "target_shape")
    known = math.prod(one for one in target if type(one) is int and one > 0)
    sizes = [shape[0] // known if one in (-1, None) else one for one in target]
    if len(sizes) == 1:
        return
    if len(sizes) > 2:
        sizes = [sizes[-1], *sizes[:-1]]
    args = {"dim": 1, "unflattened_size": sizes}
    step.add("Unflatten", args, first=len(sizes) > 2)


def repeat_vector(step: Step) -> None:
    """RepeatVector: (features) → (n, features)."""
    times, shape = step.whole("n"), step.flow.tensor.shape
    if len(shape) != 1 or times > MAX_INPUTS:
        raise step.refused(f"it repeats a vector up to {MAX_INPUTS} times", "n")
    step.add("Unflatten", {"dim": 1, "unflattened_size": [1, *shape]}, suffix="row", first=False)
    if times > 1:
        step.join("Concat", {"dim": 1}, (step.flow,) * times)


def rescaling(step: Step) -> None:
    """Rescaling by numbers that are the same for all."""
    scale, offset = step.option("scale", 1.0), step.option("offset", 0.0)
    for name, value in (("scale", scale), ("offset", offset)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise step.refused(f"`{name}` must be one number", name)
    step.add("Scale", {"factor": float(scale), "offset": float(offset)})


def zero_padding(count: int) -> Any:
    """ZeroPaddingND."""

    def translate(step: Step) -> None:
        _pad(step, count, "padding", 1)

    return translate


def cropping(count: int) -> Any:
    """CroppingND: padding with less than nothing."""

    def translate(step: Step) -> None:
        _pad(step, count, "cropping", -1)

    return translate


def _pad(step: Step, count: int, field: str, sign: int) -> None:
    channels_of(step, count)
    said = step.option(field, 1)
    pairs = [said] * count if type(said) is int else said
    if count == 1 and isinstance(pairs, list) and len(pairs) == 2:
        pairs = [pairs]
    if not isinstance(pairs, list) or len(pairs) != count:
        raise step.refused(f"`{field}` must be {count} pairs", field)
    both = [[one, one] if type(one) is int else one for one in pairs]
    if not all(isinstance(one, list) and len(one) == 2 for one in both):
        raise step.refused(f"`{field}` must be {count} pairs", field)
    flat = [sign * amount for one in reversed(both) for amount in one]
    step.add(f"ZeroPad{count}d", {"padding": flat})


def upsampling(count: int) -> Any:
    """UpSamplingND."""

    def translate(step: Step) -> None:
        channels_of(step, count)
        mode = step.option("interpolation", "nearest")
        if mode not in ("nearest", "bilinear"):
            raise step.refused(f"{mode!r} is not supported", "interpolation")
        factors = step.sides("size", count, 2)
        step.add("Upsample", {"scale_factor": [float(x) for x in factors], "mode": mode})

    return translate


def same(step: Step) -> None:
    """Nothing: for layers that leave their input as it is."""
    notes = {
        "ActivityRegularization": "its penalty is left out of the loss",
        "Masking": "no step is masked: random samples have none that is all mask_value",
    }
    if step.layer.class_name in notes:
        step.note(notes[step.layer.class_name])
