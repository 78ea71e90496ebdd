"""One seed: its batches through the recorded graph, forward and backward."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from service.domain.measurements import SeedProfile
from service.domain.probe_plan import OptimizerPlan
from service.probing import losses, operations, reductions
from service.probing.layering import Layer
from service.probing.losses import Loss
from service.probing.optimizers import updates
from service.probing.pooling import finite_mean, pooled
from service.probing.recorder import Observed
from service.probing.trace import Recording, preserved


@dataclass(frozen=True, slots=True)
class Batch:
    """What one forward and backward pass runs on."""

    inputs: tuple[Tensor, ...]
    seed: int
    """For dropout and the like."""
    target: Callable[[Tensor, Loss], Tensor]
    """Given the output and the loss: what to compare it with."""


class ParameterRecord:
    """One parameter and its gradients over the batches of one seed."""

    def __init__(self, parameter: Tensor) -> None:
        self.size = reductions.size_of(parameter)
        self.norms: list[float | None] = []
        self.unit_spread: float | None = None
        self.update_ratio: float | None = None
        self.nonfinite_gradient = 0
        """NaN and infinite elements of the gradients."""
        self._sum: Tensor | None = None

    def add(self, gradient: Tensor | None) -> None:
        """The gradient of one batch; None: the loss does not depend on the parameter."""
        if gradient is None:
            return
        size = reductions.size_of(gradient)
        self.norms.append(size.norm)
        self.nonfinite_gradient += size.nonfinite
        if self._sum is None:
            self.unit_spread = unit_spread(gradient)
            self._sum = gradient.clone()
        else:
            self._sum += gradient

    @property
    def total(self) -> Tensor | None:
        """Sum of the gradients so far; None when none came."""
        return self._sum

    def snr(self) -> float | None:
        """‖ḡ‖ / √(mean ‖g − ḡ‖²), with mean ‖g − ḡ‖² = mean ‖g‖² − ‖ḡ‖²."""
        count = len(self.norms)
        if self._sum is None or count < 2 or any(norm is None for norm in self.norms):
            return None
        total = reductions.size_of(self._sum).norm
        if total is None:
            return None
        mean_norm = total / count
        noise = math.fsum(norm**2 for norm in self.norms if norm is not None) / count
        noise -= mean_norm**2
        return mean_norm / math.sqrt(noise) if noise > 0 else None


class Seed:
    """One initialization (or one set of batches) and everything it showed."""

    def __init__(self, observed: Observed, recording: Recording) -> None:
        self.records = observed.restart()
        """Per layer."""
        self.observed = observed
        self.recording = recording
        self.parameters = {
            name: ParameterRecord(value) for name, value in recording.parameters.items()
        }
        self.losses: list[float] = []
        self.grad_norms: list[float | None] = []
        self.input_norms: list[float | None] = []

    def run(self, batch: Batch, loss: Loss) -> None:
        """One forward and backward pass."""
        torch.manual_seed(batch.seed)
        inputs = tuple(
            tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in batch.inputs
        )
        with preserved(self.recording.buffers), torch.enable_grad():
            output = self.observed.module(*inputs)
            value = loss.compute(output, batch.target(output, loss))
            self.losses.append(float(value.detach()))
            wanted = [tensor for tensor in inputs if tensor.requires_grad]
            gradients = gradients_of(value, [*self.recording.parameters.values(), *wanted])
        own = gradients[: len(self.parameters)]
        for record, gradient in zip(self.parameters.values(), own, strict=True):
            record.add(gradient)
        self.grad_norms.append(joint_norm(own))
        if wanted:
            self.input_norms.append(joint_norm(gradients[len(self.parameters) :]))
        self.observed.watch.finish_batch()

    @torch.no_grad()
    def first_step(self, optimizer: OptimizerPlan) -> None:
        """After one batch: how much the optimizer's first step would change each parameter."""
        moved = [
            (record, self.recording.parameters[name], record.total)
            for name, record in self.parameters.items()
            if record.total is not None
        ]
        copies = [parameter.clone() for _, parameter, _ in moved]
        updates(copies, optimizer)([gradient.clone() for *_, gradient in moved])
        for (record, parameter, _), copy in zip(moved, copies, strict=True):
            change = reductions.size_of(copy - parameter).norm
            if change is not None and record.size.norm:
                record.update_ratio = change / record.size.norm

    def profile(self) -> SeedProfile:
        """The seed's line over depth."""

        def line(statistic: str) -> tuple[float | None, ...]:
            return tuple(pooled(statistic, record.numbers[statistic]) for record in self.records)

        return SeedProfile(
            loss=finite_mean(self.losses),
            gradient_norm=line("gradient.norm"),
            gradient_gain=line("gradient.gain"),
            activation_rms=line("activation.rms"),
            activation_std=line("activation.std"),
            correlation=line("activation.correlation"),
            weight_gradient_norm=tuple(
                self._weight_gradient(layer) for layer in self.observed.layers
            ),
        )

    def _weight_gradient(self, layer: Layer) -> float | None:
        own = [self.parameters[name] for name in layer.parameters]
        if not own:
            return None
        return finite_mean(max(own, key=lambda record: record.size.count).norms)


def gradients_of(value: Tensor, tensors: list[Tensor]) -> tuple[Tensor | None, ...]:
    """∂value/∂tensor for each; None where value does not depend on it."""
    if not tensors or not value.requires_grad:
        return (None,) * len(tensors)
    return torch.autograd.grad(value, tensors, allow_unused=True)


@torch.no_grad()
def joint_norm(tensors: tuple[Tensor | None, ...]) -> float | None:
    """Norm of all together; None when any is not finite or none is there."""
    norms = [reductions.size_of(tensor).norm for tensor in tensors if tensor is not None]
    if not norms or any(norm is None for norm in norms):
        return None
    return math.hypot(*[norm for norm in norms if norm is not None])


@torch.no_grad()
def unit_spread(gradient: Tensor) -> float | None:
    """√(mean ‖gᵢ − ḡ‖²) / √(mean ‖gᵢ‖²) over the rows of a weight gradient, 0 … 1; 0: every unit
    receives the same gradient. None for vectors, single rows and zero gradients."""
    if gradient.ndim < 2 or gradient.shape[0] < 2:
        return None
    rows = gradient.flatten(1)
    top = rows.abs().amax()
    if not bool(top > 0) or not bool(top.isfinite()):
        return None
    rows = rows / top
    centred = rows - rows.mean(0, keepdim=True)
    return float(torch.linalg.vector_norm(centred) / torch.linalg.vector_norm(rows))


def choose_loss(name: str, output: Tensor, recording: Recording) -> Loss:
    """The loss for a recorded model. Raises ModelRaised when a named one does not fit."""
    graph_output = next(iter(reversed(recording.module.graph.nodes))).args[0]
    return losses.choose(name, output, operations.output_operation(graph_output))
