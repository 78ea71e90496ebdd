"""A measurement in 16 bits beside one in float32: what was lost on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch

from service.domain.half_precision import SMALL_SHARE, loss_scale
from service.domain.measurements import (
    LayerMeasurements,
    Measurements,
    Quantiles,
    SeedProfile,
)
from service.domain.probe_plan import Look, ProbePlan

Changes = tuple[Mapping[str, Any], ...]


class Measurable(Protocol):
    """A session in float32 that measures ranges, too."""

    def changed(self, changes: Changes) -> Measurable:
        """The model as changed."""

    def measure_beside(self, look: Look | None) -> Measurements:
        """On the same seeds and batches, as a part of what the other session is asked."""


class Beside:
    """The same model in float32, every look at it taken once."""

    def __init__(self, session: Measurable, half: torch.dtype) -> None:
        self.session = session
        self._half = half
        self._measured: dict[Look | None, Measurements] = {}
        self._scale: float | None = None
        """What the gradients of the model need; None: no scale, or not known yet."""

    def changed(self, changes: Changes) -> Beside:
        """The model as changed, in float32."""
        return Beside(self.session.changed(changes), self._half)

    def passes(self, plan: ProbePlan, look: Look | None) -> int:
        """What `compared` will take of a plan that is within this look."""
        return 0 if look in self._measured else plan.seeds * plan.batches

    def compared(self, measured: Measurements, look: Look | None = None) -> Measurements:
        """What each layer lost. Derivatives are checked in float32: differences of losses of 16
        bits tell nothing."""
        if look not in self._measured:
            self._measured[look] = self.session.measure_beside(look)
        wide = {layer.name: layer for layer in self._measured[look].layers}
        check = self._measured[look].model.gradient_check
        return replace(
            measured,
            model=replace(measured.model, gradient_check=check),
            layers=tuple(self._with_loss(layer, wide.get(layer.name)) for layer in measured.layers),
        )

    def _with_loss(
        self, layer: LayerMeasurements, wide: LayerMeasurements | None
    ) -> LayerMeasurements:
        if wide is None or wide.precision is None:
            return layer
        share = _lost(layer.gradient.zero_fraction, wide.gradient.zero_fraction)
        found = replace(
            wide.precision,
            underflow_fraction=share,
            activation_overflow=_more(
                layer.activation.nonfinite_count, wide.activation.nonfinite_count
            ),
            gradient_overflow=_more(_of_gradients(layer), _of_gradients(wide)),
        )
        if self._half is not torch.float16:
            return replace(layer, precision=found)
        gradient = replace(layer.gradient, underflow_fraction_fp16=share)
        return replace(layer, precision=found, gradient=gradient)

    def as_trained(
        self, measured: Measurements, at_scale: Callable[[float], Measurements]
    ) -> Measurements:
        """The gradients' flow as a training with torch.amp.GradScaler would see it: where float16
        loses much of the gradients and a loss scale could keep them, norms and gains of the whole
        model are measured with that scale, which is then taken out. The layers' own statistics stay
        as they are without one. After optimizer steps the scale is that of before."""
        if not measured.after_steps:
            self._scale = _needed(measured)
        scale = self._scale
        if scale is None:
            return measured
        trained = at_scale(scale)
        note = (
            f"float16: gradient flow over depth is judged with the loss scaled by {scale:g}, as "
            "torch.amp.GradScaler would find it; the statistics of each layer are without a scale"
        )
        return replace(
            measured,
            model=replace(
                measured.model,
                grad_norm=_unscaled_quantiles(trained.model.grad_norm, scale),
                input_grad_norm=_unscaled([trained.model.input_grad_norm], scale)[0],
                total_gain=trained.model.total_gain,
            ),
            seeds=tuple(
                _flow(own, other, scale)
                for own, other in zip(measured.seeds, trained.seeds, strict=True)
            ),
            notes=(*measured.notes, note),
        )


def _needed(measured: Measurements) -> float | None:
    """The loss scale without which much is lost; None where none is needed, or would help."""
    losses = [layer.precision for layer in measured.layers if layer.precision is not None]
    share = max((loss.underflow_fraction or 0.0 for loss in losses), default=0.0)
    overflow = any(loss.gradient_overflow for loss in losses)
    if any(loss.activation_overflow for loss in losses) or not (share >= SMALL_SHARE or overflow):
        return None
    scale = loss_scale(max((loss.gradient_abs_max or 0.0 for loss in losses), default=0.0))
    return None if scale == 1.0 else scale


def _lost(zeros: float | None, before: float | None) -> float | None:
    """Of what is not 0 in float32, 0 … 1."""
    if zeros is None or before is None:
        return None
    return max(zeros - before, 0.0) / (1.0 - before) if before < 1.0 else 0.0


def _more(count: int, before: int) -> int:
    """Elements that only 16 bits cannot hold."""
    return 0 if before else count


def _of_gradients(layer: LayerMeasurements) -> int:
    of_parameters = sum(p.grad_nonfinite_count for p in layer.parameters)
    return layer.gradient.nonfinite_count + of_parameters


def _flow(own: SeedProfile, trained: SeedProfile, scale: float) -> SeedProfile:
    return replace(
        own,
        gradient_norm=_unscaled(trained.gradient_norm, scale),
        gradient_gain=trained.gradient_gain,
        weight_gradient_norm=_unscaled(trained.weight_gradient_norm, scale),
    )


def _unscaled(norms: Iterable[float | None], scale: float) -> tuple[float | None, ...]:
    return tuple(
        norm / scale if norm is not None and math.isfinite(norm) else None for norm in norms
    )


def _unscaled_quantiles(norms: Quantiles, scale: float) -> Quantiles:
    p50, p90, largest = _unscaled((norms.p50, norms.p90, norms.max), scale)
    return Quantiles(p50, p90, largest, norms.n)
