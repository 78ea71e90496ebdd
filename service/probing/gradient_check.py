"""Is autograd's gradient that of the loss?  A two-sided difference along one direction tells.

(f(θ + εd) - f(θ - εd)) / 2ε agrees with ⟨∇f, d⟩ up to ε² and rounding. The direction follows the
gradient's own signs, so that nothing cancels: a random one would leave ‖∇f‖/√n of the slope, which
rounding hides in a network of any size. They part where a model passes on a gradient of its own
(straight-through estimators, detach), and where the loss is no smooth function of its weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn

from service.domain.measurements import GradientCheck
from service.probing import devices, operations
from service.probing.gradients import gradients_of
from service.probing.losses import Loss
from service.probing.norms import norms_of
from service.probing.probe import Batch
from service.probing.trace import preserved, primary_output

LARGEST = 1_000_000
"""Parameter elements up to which a model is checked: beyond, forward passes are no longer cheap."""
AGREES = 0.05
"""Relative difference under which nobody looks closer."""
CHANGE = {torch.float32: 1e-4, torch.float64: 1e-6}
"""How much of its value the loss is to change by. A loss is right to about 1e-7 of itself in
float32, so that the slope is right to 1e-3, and to 1e-16 in float64."""
FARTHEST = 1e-2
"""Largest step, relative to the parameters' root mean square."""
CLOSER = 0.1
"""A second, smaller step, by this factor: a difference that still moves is none to judge by."""
UNSCALED = 0.1
"""What a parameter that is all zero is moved by, in place of its own root mean square."""


@dataclass(frozen=True, slots=True)
class GradientProbe:
    """What is differentiated."""

    forward: Callable[..., Tensor]
    parameters: list[Tensor]
    buffers: Mapping[str, Tensor]
    batch: Batch
    loss: Loss

    @torch.no_grad()
    def value(self) -> float:
        """f(θ)."""
        with preserved(self.buffers):
            return float(self._loss().detach().double())

    @torch.no_grad()
    def difference(self, direction: list[Tensor], step: float) -> float:
        """(f(θ + step·d) - f(θ - step·d)) / 2·step; the parameters are left as they were."""
        kept = [parameter.clone() for parameter in self.parameters]
        try:
            torch._foreach_add_(self.parameters, direction, alpha=step)
            above = self.value()
            torch._foreach_add_(self.parameters, direction, alpha=-2.0 * step)
            return (above - self.value()) / (2.0 * step)
        finally:
            torch._foreach_copy_(self.parameters, kept)

    def gradients(self) -> list[Tensor | None]:
        """By autograd; buffers are put back only after the backward pass, which may read them."""
        with torch.enable_grad(), preserved(self.buffers):
            return list(gradients_of(self._loss(), self.parameters))

    def _loss(self) -> Tensor:
        devices.seed(self.batch.seed)
        output = self.forward(*self.batch.inputs)
        return self.loss.compute(output, self.batch.target(output, self.loss))


def check(
    probe: GradientProbe,
    gradients: list[Tensor | None],
    value: float,
    model: nn.Module,
    graph: fx.Graph,
) -> GradientCheck | None:
    """Compare `gradients` and loss `value` of a probe, at two forward passes. Where they part,
    again in float64 on a copy of `model`, at five and a backward pass. None when the model is
    large or has complex parameters, its loss is flat, or no difference settles."""
    if any(parameter.is_complex() for parameter in probe.parameters):
        return None
    elements = sum(parameter.numel() for parameter in probe.parameters)
    if not math.isfinite(value) or not 0 < elements <= LARGEST:
        return None
    found = _compared(probe, gradients, value)
    if found is not None and found.relative_error > AGREES:
        found = _settled(_in_float64(probe, model))
    return None if found is None else replace(found, blocked=blocks_gradients(graph))


def blocks_gradients(graph: fx.Graph) -> bool:
    """True when the model itself stops gradients on their way from loss to input."""
    data: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(source in data for source in node.all_input_nodes):
            data.add(node)
            if operations.name_of(node) == "detach" and node.users:
                return True
        if node.target is torch._C._set_grad_enabled and data:
            return True
    return False


def _settled(probe: GradientProbe | None) -> GradientCheck | None:
    """At two steps; None where the smaller one changes the difference."""
    if probe is None:
        return None
    gradients, value = probe.gradients(), probe.value()
    wide = _compared(probe, gradients, value)
    close = _compared(probe, gradients, value, CLOSER)
    if wide is None or close is None:
        return None
    moved = abs(wide.difference - close.difference)
    settled = moved <= AGREES * max(abs(wide.difference), abs(wide.autograd))
    return close if settled else None


def _compared(
    probe: GradientProbe, gradients: list[Tensor | None], value: float, closer: float = 1.0
) -> GradientCheck | None:
    """None when the loss hardly changes within the farthest step."""
    direction, slope = _direction(probe.parameters, gradients)
    size = max(abs(value), torch.finfo(torch.float32).tiny)
    change = CHANGE[probe.parameters[0].dtype] * size
    if not math.isfinite(slope) or slope * FARTHEST < change:
        return None
    difference = probe.difference(direction, closer * change / slope)
    if not math.isfinite(difference):
        return None
    error = abs(slope - difference) / max(slope, abs(difference))
    return GradientCheck(slope, difference, error, blocked=False)


@torch.no_grad()
def _direction(
    parameters: list[Tensor], gradients: list[Tensor | None]
) -> tuple[list[Tensor], float]:
    """Of random lengths, with the gradient's signs, in proportion to each parameter's size; and the
    slope along it by autograd, ≥ 0."""
    generator = torch.Generator().manual_seed(0)
    direction, slope = [], 0.0
    norms = norms_of(parameters).tolist()
    for parameter, gradient, norm in zip(parameters, gradients, norms, strict=True):
        scale = norm / math.sqrt(parameter.numel()) if norm and math.isfinite(norm) else UNSCALED
        lengths = torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype)
        signs = torch.zeros_like(parameter) if gradient is None else gradient.sign()
        direction.append(signs * lengths.to(signs.device) * scale)
        if gradient is not None:
            slope += float((direction[-1] * gradient).sum(dtype=torch.float64))
    return direction, slope


def _in_float64(probe: GradientProbe, model: nn.Module) -> GradientProbe | None:
    """The same on a copy in float64; None for models that will not have it."""
    try:
        with torch.no_grad():
            precise = copy.deepcopy(model).to(torch.float64)
        inputs = tuple(x.double() if x.is_floating_point() else x for x in probe.batch.inputs)
        batch = Batch(inputs, probe.batch.seed, probe.batch.target)
        parameters: list[Tensor] = [
            value.requires_grad_(True)
            for _, value in precise.named_parameters()
            if value.is_floating_point()
        ]
        again = GradientProbe(
            lambda *given: primary_output(precise(*given)),
            parameters,
            dict(precise.named_buffers()),
            batch,
            probe.loss,
        )
        again.value()
    except (RuntimeError, TypeError, ValueError):
        return None
    return again
