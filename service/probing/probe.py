"""One probe: seeds × batches through the recorded graph, and what they showed, summed up."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from service.domain.measurements import (
    ActivationStatistics,
    GradientStatistics,
    LayerMeasurements,
    Measurements,
    ModelMeasurements,
    ParameterStatistics,
    Quantiles,
    SeedProfile,
)
from service.probing import losses, operations, reductions
from service.probing.layering import Layer
from service.probing.losses import Loss
from service.probing.recorder import LayerRecord, Observed, geometric_mean
from service.probing.trace import Recording, preserved

GEOMETRIC = frozenset({"gradient.rms", "gradient.norm", "gradient.gain"})
"""Statistics that multiply over depth: their mean over repetitions is geometric."""
LARGEST = frozenset({"activation.abs_max", "gradient.abs_max"})
QUANTILES = {"p05": 0.05, "p50": 0.5, "p95": 0.95}


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
        self._sum: Tensor | None = None

    def add(self, gradient: Tensor | None) -> None:
        """The gradient of one batch; None: the loss does not depend on the parameter."""
        if gradient is None:
            return
        self.norms.append(reductions.size_of(gradient).norm)
        if self._sum is None:
            self.unit_spread = unit_spread(gradient)
            self._sum = gradient.clone()
        else:
            self._sum += gradient

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


def summed_up(
    seeds: list[Seed], loss: Loss, output_shape: tuple[int, ...], frozen: frozenset[str]
) -> Measurements:
    """All seeds together."""
    layers = seeds[0].observed.layers
    measured = tuple(_layer(layer, seeds, frozen) for layer in layers)
    profiles = tuple(seed.profile() for seed in seeds)
    all_losses = [value for seed in seeds for value in seed.losses]
    norms = sorted(norm for seed in seeds for norm in seed.grad_norms if norm is not None)
    graph_output = next(iter(reversed(seeds[0].recording.module.graph.nodes))).args[0]
    return Measurements(
        model=ModelMeasurements(
            loss=loss.name,
            loss_guessed=loss.guessed,
            loss_at_start=finite_mean(all_losses),
            chance_loss=loss.chance,
            grad_norm=Quantiles(
                p50=quantile(norms, 0.5),
                p90=quantile(norms, 0.9),
                max=norms[-1] if norms else None,
                n=len(norms),
            ),
            total_gain=_total_gain(profiles),
            input_grad_norm=finite_mean([n for seed in seeds for n in seed.input_norms]),
            output_shape=output_shape,
            output_op=operations.output_operation(graph_output),
            nonfinite_loss_count=sum(not math.isfinite(value) for value in all_losses),
        ),
        layers=measured,
        seeds=profiles,
    )


def _total_gain(profiles: tuple[SeedProfile, ...]) -> float | None:
    ratios = []
    for profile in profiles:
        if profile.gradient_norm:
            first, last = profile.gradient_norm[0], profile.gradient_norm[-1]
            ratios.append(first / last if last and first is not None else None)
    return geometric_mean(ratios)


def _layer(layer: Layer, seeds: list[Seed], frozen: frozenset[str]) -> LayerMeasurements:
    records = [seed.records[layer.index] for seed in seeds]
    names = dict.fromkeys(name for record in records for name in record.numbers)
    values = {
        name: [value for record in records for value in record.numbers[name]] for name in names
    }
    means = {name: pooled(name, values[name]) for name in names}
    spread = {
        name: (min(present), max(present))
        for name in names
        if (present := [value for value in values[name] if value is not None])
    }
    weight = _weight(layer, seeds[0].recording)
    fans = _fans(weight)
    return LayerMeasurements(
        index=layer.index,
        name=layer.name,
        op=layer.op,
        nonlinearity=layer.nonlinearity,
        normalization=layer.normalization,
        residual=layer.residual,
        fan_in=fans[0],
        fan_out=fans[1],
        depth=layer.depth,
        output_shape=records[0].output_shape,
        activation=ActivationStatistics(
            mean=means.get("activation.mean"),
            std=means.get("activation.std"),
            rms=means.get("activation.rms"),
            abs_max=means.get("activation.abs_max"),
            zero_fraction=means.get("activation.zero_fraction"),
            saturated_fraction=means.get("activation.saturated_fraction"),
            dead_unit_fraction=finite_mean([_dead(record) for record in records]),
            correlation=means.get("activation.correlation"),
            nonfinite_count=sum(record.nonfinite_activation for record in records),
        ),
        gradient=GradientStatistics(
            rms=means.get("gradient.rms"),
            norm=means.get("gradient.norm"),
            abs_max=means.get("gradient.abs_max"),
            gain=means.get("gradient.gain"),
            gain_quantiles=_gain_quantiles(records),
            zero_fraction=means.get("gradient.zero_fraction"),
            underflow_fraction_fp16=means.get("gradient.underflow_fraction_fp16"),
            nonfinite_count=sum(record.nonfinite_gradient for record in records),
        ),
        parameters=tuple(_parameter(name, seeds, name in frozen) for name in layer.parameters),
        spread=spread,
    )


def _parameter(name: str, seeds: list[Seed], frozen: bool) -> ParameterStatistics:
    records = [seed.parameters[name] for seed in seeds]
    shape = tuple(seeds[0].recording.parameters[name].shape)
    count = max(records[0].size.count, 1)
    norms = [norm for record in records for norm in record.norms]
    grad_norm = finite_mean(norms)
    ratios = [
        norm / record.size.norm
        for record in records
        for norm in record.norms
        if norm is not None and record.size.norm
    ]
    return ParameterStatistics(
        name=name,
        shape=shape,
        rms=finite_mean([record.size.rms for record in records]),
        grad_norm=grad_norm,
        grad_rms=None if grad_norm is None else grad_norm / math.sqrt(count),
        grad_to_weight=finite_mean(ratios),
        snr=finite_mean([record.snr() for record in records]),
        connected=bool(norms),
        frozen=frozen,
        unit_spread=finite_mean([record.unit_spread for record in records]),
        nonfinite_count=records[0].size.nonfinite,
    )


def _weight(layer: Layer, recording: Recording) -> Tensor | None:
    own = [recording.parameters[name] for name in layer.parameters]
    matrices = [value for value in own if value.ndim >= 2]
    return max(matrices, key=Tensor.numel) if matrices else None


def _fans(weight: Tensor | None) -> tuple[int | None, int | None]:
    if weight is None or weight.numel() == 0:
        return None, None
    return nn.init._calculate_fan_in_and_fan_out(weight)


def _dead(record: LayerRecord) -> float | None:
    if record.active is None or record.active.numel() == 0:
        return None
    return 1.0 - float(record.active.sum()) / record.active.numel()


def _gain_quantiles(records: list[LayerRecord]) -> dict[str, float | None]:
    gains = [gain for record in records for gain in record.sample_gains]
    if not gains:
        return {}
    pooled_gains = sorted(torch.cat(gains).tolist())
    return {name: quantile(pooled_gains, share) for name, share in QUANTILES.items()}


def pooled(statistic: str, values: list[float | None]) -> float | None:
    """One number for all repetitions: geometric mean, maximum or mean, by the statistic."""
    if statistic in GEOMETRIC:
        return geometric_mean(values)
    if statistic in LARGEST:
        present = [value for value in values if value is not None]
        return max(present) if present else None
    return finite_mean(values)


def finite_mean(values: list[float | None] | list[float]) -> float | None:
    """Mean of the finite ones; None without any."""
    present = [value for value in values if value is not None and math.isfinite(value)]
    return math.fsum(present) / len(present) if present else None


def quantile(ordered: list[float], share: float) -> float | None:
    """Linear interpolation between order statistics (NumPy's default)."""
    if not ordered:
        return None
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def choose_loss(name: str, output: Tensor, recording: Recording) -> Loss:
    """The loss for a recorded model. Raises ModelRaised when a named one does not fit."""
    graph_output = next(iter(reversed(recording.module.graph.nodes))).args[0]
    return losses.choose(name, output, operations.output_operation(graph_output))
