"""Keras initializers as calls of torch.nn.init, with Keras's own fans and truncation.

Variance scaling (keras.initializers.VarianceScaling): with n the fan of `mode`,

    uniform           within ±√(3·scale/n)
    untruncated       standard deviation √(scale/n)
    truncated_normal  standard deviation √(scale/n)/0.8796…, cut at two of it, so that what is
                      left has the variance scale/n
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TRUNCATED = 0.87962566103423978
"""Standard deviation of a standard normal cut at ±2 (Keras's constant)."""
_SCALING: Mapping[str, tuple[float, str, str]] = {
    "glorot_uniform": (1.0, "fan_avg", "uniform"),
    "glorot_normal": (1.0, "fan_avg", "truncated_normal"),
    "he_uniform": (2.0, "fan_in", "uniform"),
    "he_normal": (2.0, "fan_in", "truncated_normal"),
    "lecun_uniform": (1.0, "fan_in", "uniform"),
    "lecun_normal": (1.0, "fan_in", "truncated_normal"),
}
"""By name: scale, mode, distribution."""
_SHORT = {"uniform": "random_uniform", "normal": "random_normal", "zero": "zeros", "one": "ones"}


@dataclass(frozen=True, slots=True)
class Fans:
    """Keras's reckoning of a kernel (…, in, out): receptive field times in, times out."""

    fan_in: float
    fan_out: float


class UnknownInitializer(ValueError):
    """It cannot be said with torch.nn.init; the text says which."""


def init_call(said: Any, fans: Fans) -> dict[str, Any]:
    """{"name", "args"} of the function that fills a parameter alike. Raises UnknownInitializer."""
    name, config = _named(said)
    if name in _SCALING:
        return _scaled(*_SCALING[name], fans)
    if name == "variance_scaling":
        return _scaled(
            float(config.get("scale", 1.0)),
            str(config.get("mode", "fan_in")),
            str(config.get("distribution", "truncated_normal")),
            fans,
        )
    mean, std = float(config.get("mean", 0.0)), float(config.get("stddev", 0.05))
    if name == "random_normal":
        return _call("normal_", mean=mean, std=std)
    if name == "truncated_normal":
        return _cut(mean, std)
    if name == "random_uniform":
        low, high = float(config.get("minval", -0.05)), float(config.get("maxval", 0.05))
        return _call("uniform_", a=low, b=high)
    if name == "constant" and isinstance(config.get("value", 0.0), int | float):
        return _call("constant_", val=float(config.get("value", 0.0)))
    if name in ("orthogonal", "orthogonal_initializer") and _torch_agrees(fans):
        return _call("orthogonal_", gain=float(config.get("gain", 1.0)))
    if name in ("identity", "identity_initializer") and config.get("gain", 1.0) == 1.0:
        return _call("eye_")
    if name in ("zeros", "ones"):
        return _call(f"{name}_")
    raise UnknownInitializer(f"the initializer {name} is not supported")


def _named(said: Any) -> tuple[str, Mapping[str, Any]]:
    if isinstance(said, str):
        return _plain(said), {}
    if not (isinstance(said, dict) and isinstance(said.get("class_name"), str)):
        raise UnknownInitializer(f"{said!r} is no initializer")
    config = said.get("config")
    return _plain(said["class_name"]), config if isinstance(config, dict) else {}


def _plain(name: str) -> str:
    """GlorotUniform and glorot_uniform are one."""
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return _SHORT.get(snake, snake)


def _scaled(scale: float, mode: str, distribution: str, fans: Fans) -> dict[str, Any]:
    if distribution == "uniform" and (scale, mode) == (1.0, "fan_avg"):
        return _call("xavier_uniform_") if _torch_agrees(fans) else _within(scale, mode, fans)
    variance = scale / _fan(mode, fans)
    if distribution == "uniform":
        return _within(scale, mode, fans)
    if distribution == "untruncated_normal":
        return _call("normal_", mean=0.0, std=math.sqrt(variance))
    if distribution in ("truncated_normal", "normal"):
        return _cut(0.0, math.sqrt(variance) / TRUNCATED)
    raise UnknownInitializer(f"the distribution {distribution} is not supported")


def _torch_agrees(fans: Fans) -> bool:
    return not isinstance(fans, OwnFans)


@dataclass(frozen=True, slots=True)
class OwnFans(Fans):
    """Of a kernel whose fans torch reckons otherwise: a depthwise one, or one of several."""


def _within(scale: float, mode: str, fans: Fans) -> dict[str, Any]:
    limit = math.sqrt(3.0 * scale / _fan(mode, fans))
    return _call("uniform_", a=-limit, b=limit)


def _fan(mode: str, fans: Fans) -> float:
    by_mode = {
        "fan_in": fans.fan_in,
        "fan_out": fans.fan_out,
        "fan_avg": (fans.fan_in + fans.fan_out) / 2,
    }
    if mode not in by_mode:
        raise UnknownInitializer(f"the mode {mode} is not supported")
    return max(1.0, by_mode[mode])


def _cut(mean: float, std: float) -> dict[str, Any]:
    return _call("trunc_normal_", mean=mean, std=std, a=mean - 2 * std, b=mean + 2 * std)


def _call(name: str, **args: float) -> dict[str, Any]:
    return {"name": name, "args": args}
