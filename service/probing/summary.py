"""All seeds together: the measurements that cross the process wall."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from service.domain.measurements import (
    ActivationStatistics,
    GradientStatistics,
    LayerMeasurements,
    Measurements,
    ModelMeasurements,
    ParameterStatistics,
    PrecisionLoss,
    Quantiles,
    SeedProfile,
    TimeSteps,
)
from service.probing import operations
from service.probing.accounts import LayerRecord
from service.probing.gain_parts import gain_parts
from service.probing.layering import Layer
from service.probing.losses import Loss
from service.probing.pooling import finite_mean, geometric_mean, pooled, quantile
from service.probing.probe import Seed
from service.probing.trace import Recording

QUANTILES = {"p05": 0.05, "p50": 0.5, "p95": 0.95}


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
            gain_parts=gain_parts(means),
            zero_fraction=means.get("gradient.zero_fraction"),
            underflow_fraction_fp16=means.get("gradient.underflow_fraction_fp16"),
            nonfinite_count=sum(record.nonfinite_gradient for record in records),
        ),
        parameters=tuple(_parameter(name, seeds, name in frozen) for name in layer.parameters),
        spread=spread,
        time_steps=_time_steps(records),
        nonlinearity_args=layer.arguments,
        path=layer.chain.kinds if layer.chain else (),
        input_rms=means.get("input.rms"),
        input_std=means.get("input.std"),
        reads=layer.chain.reads if layer.chain else None,
        precision=_ranges(layer, seeds, means) if seeds[0].observed.watch.ranges else None,
    )


def _ranges(layer: Layer, seeds: list[Seed], means: dict[str, float | None]) -> PrecisionLoss:
    """How large and small the numbers are that 16 bits would have to hold."""
    own = [seed.parameters[name].gradient_abs_max for seed in seeds for name in layer.parameters]
    largest = max([means.get("gradient.abs_max") or 0.0, *own])
    return PrecisionLoss(
        underflow_fraction=None,
        activation_overflow=0,
        gradient_overflow=0,
        activation_abs_max=means.get("activation.abs_max"),
        gradient_abs_max=largest if math.isfinite(largest) else None,
        gradient_small=means.get("gradient.small"),
    )


def _time_steps(records: list[LayerRecord]) -> TimeSteps | None:
    if not records[0].memory:
        return None
    return TimeSteps(
        _by_step([record.memory for record in records]),
        _by_step([record.step_gradients for record in records]),
    )


def _by_step(lines: list[tuple[float | None, ...]]) -> tuple[float | None, ...]:
    """Over the seeds that saw as many steps as the first: data-dependent models may vary."""
    alike = [line for line in lines if len(line) == len(lines[0])]
    return tuple(geometric_mean(list(norms)) for norms in zip(*alike, strict=True))


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
        update_ratio=finite_mean([record.update_ratio for record in records]),
        connected=bool(norms),
        frozen=frozen,
        unit_spread=finite_mean([record.unit_spread for record in records]),
        nonfinite_count=records[0].size.nonfinite,
        grad_nonfinite_count=sum(record.nonfinite_gradient for record in records),
        abs_max=max((record.size.abs_max or 0.0 for record in records), default=None),
        lost_update_fraction=finite_mean([record.lost_update for record in records]),
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
    if not record.active or record.active[0].numel() == 0:
        return None
    return 1.0 - float(torch.stack(record.active).amax(0).mean())


def _gain_quantiles(records: list[LayerRecord]) -> dict[str, float | None]:
    gains = [gain for record in records for gain in record.sample_gains]
    if not gains:
        return {}
    told = torch.cat(gains)
    pooled_gains: list[float] = told[told.isfinite()].sort().values.tolist()
    return {name: quantile(pooled_gains, share) for name, share in QUANTILES.items()}
