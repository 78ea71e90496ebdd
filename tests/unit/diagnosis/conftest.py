"""Cases written as short tables, blown up to the measurements a probe would give."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from service.diagnosis.detector import Case
from service.domain.baseline import Baseline
from service.domain.measurements import (
    ActivationStatistics,
    BatchNormalization,
    GradientCheck,
    GradientStatistics,
    InputStatistics,
    LayerMeasurements,
    Measurements,
    ModelMeasurements,
    ParameterStatistics,
    PrecisionLoss,
    Quantiles,
    SeedProfile,
    TimeSteps,
    Trial,
    TrialRun,
)
from service.domain.probe_plan import OptimizerPlan, ProbePlan

BATCH, WIDTH = 64, 128
Table = Mapping[str, Any]
LOST = {
    "underflow_fraction": 0.0,
    "activation_overflow": 0,
    "gradient_overflow": 0,
    "activation_abs_max": 4.0,
    "gradient_abs_max": 1e-2,
    "gradient_small": 1e-5,
}
"""What 16 bits cost a layer that they suit."""
STANDARD = {
    "index": 0,
    "mean": 0.0,
    "std": 1.0,
    "features": 64,
    "constant_features": 0,
    "feature_rms_p25": 0.9,
    "feature_rms_max": 1.2,
    "feature_offset_p50": 0.1,
}


@pytest.fixture(scope="session")
def case_of() -> Callable[[Table], Case]:
    return _case


def _case(table: Table) -> Case:
    """`gradient`: norm of ∂loss/∂y per layer, first to last; every other column is one value for
    all layers or a list of as many. `seeds`: factors on the fall, one per seed. `plan`, `model`
    and `layer` (fields of every layer) are given as they are; `memory` and `step_gradient` are
    factors per time step."""
    optimizer = table.get("optimizer")
    named = OptimizerPlan(optimizer, 0.1) if optimizer else None
    return Case(
        measured=_measurements(table),
        plan=ProbePlan(optimizer=named, **table.get("plan", {})),
        settled=_measurements(table["settled"], after_steps=2) if "settled" in table else None,
        trial=_trial(table["trial"]) if "trial" in table else None,
        baseline=_baseline(table["baseline"]) if "baseline" in table else None,
    )


def _measurements(table: Table, *, after_steps: int = 0) -> Measurements:
    gradient: list[float | None] = table["gradient"]
    count = len(gradient)

    def column(name: str, default: Any) -> list[Any]:
        value = table.get(name, default)
        return value if isinstance(value, list) else [value] * count

    rms, correlation = column("rms", 1.0), column("correlation", 0.0)
    gain = column("gain", None)
    gains = [
        g if g is not None else _ratio(before, after)
        for g, before, after in zip(gain, [None, *gradient], [*gradient], strict=False)
    ]
    columns = zip(
        column("op", "linear"),
        column("nonlinearity", "relu"),
        column("normalization", None),
        column("residual", False),
        column("depth", None),
        column("dead", 0.0),
        column("saturated", None),
        column("nonfinite", 0),
        column("gradient_nonfinite", 0),
        column("weight_rms", 0.05),
        column("unit_spread", 0.95),
        column("weight_gradient", 1.0),
        column("connected", True),
        column("snr", 1.0),
        column("update_ratio", None),
        column("underflow", None),
        column("gradient_abs_max", None),
        column("values_normalized", None),
        column("own_statistics", True),
        column("signal", None),
        column("attainable", None),
        column("width", WIDTH),
        column("weight_abs_max", None),
        column("lost_updates", None),
        column("precision", None),
        strict=True,
    )
    layers = tuple(
        LayerMeasurements(
            index=i,
            name=f"fc{i + 1}",
            op=op,
            nonlinearity=nonlinearity,
            normalization=normalization,
            residual=residual,
            fan_in=WIDTH,
            fan_out=WIDTH,
            depth=depth or i + 1,
            output_shape=tuple(table.get("output_shape", (BATCH, width))),
            precision=PrecisionLoss(**{**LOST, **precision}) if precision is not None else None,
            **table.get("layer", {}),
            activation=ActivationStatistics(
                mean=0.0,
                std=rms[i],
                rms=rms[i],
                abs_max=None if rms[i] is None else 4.0 * rms[i],
                zero_fraction=0.5,
                saturated_fraction=saturated,
                dead_unit_fraction=dead,
                correlation=correlation[i],
                nonfinite_count=nonfinite,
                signal_share=signal,
                attainable_share=attainable,
            ),
            gradient=GradientStatistics(
                rms=None,
                norm=gradient[i],
                abs_max=gradient_abs_max,
                gain=gains[i],
                underflow_fraction_fp16=underflow,
                nonfinite_count=gradient_nonfinite,
            ),
            parameters=(
                ParameterStatistics(
                    name=f"fc{i + 1}.weight",
                    shape=(WIDTH, WIDTH),
                    rms=weight_rms,
                    grad_norm=weight_gradient if connected else None,
                    grad_rms=None,
                    grad_to_weight=None,
                    snr=snr,
                    update_ratio=update_ratio,
                    connected=connected,
                    unit_spread=unit_spread,
                    abs_max=weight_abs_max or (weight_rms and 4.0 * weight_rms),
                    lost_update_fraction=lost_updates,
                ),
            ),
            time_steps=_time_steps(table) if op in ("rnn", "lstm", "gru") else None,
            batch_normalization=(
                BatchNormalization(values_normalized, own_statistics) if values_normalized else None
            ),
        )
        for i, (
            op,
            nonlinearity,
            normalization,
            residual,
            depth,
            dead,
            saturated,
            nonfinite,
            gradient_nonfinite,
            weight_rms,
            unit_spread,
            weight_gradient,
            connected,
            snr,
            update_ratio,
            underflow,
            gradient_abs_max,
            values_normalized,
            own_statistics,
            signal,
            attainable,
            width,
            weight_abs_max,
            lost_updates,
            precision,
        ) in enumerate(columns)
    )
    seeds = tuple(
        SeedProfile(
            loss=2.3,
            gradient_norm=tuple(_stretched(g, gradient[-1], factor) for g in gradient),
            gradient_gain=tuple(gains),
            activation_rms=tuple(rms),
            activation_std=tuple(rms),
            correlation=tuple(correlation),
            weight_gradient_norm=tuple(column("weight_gradient", 1.0)),
        )
        for factor in table.get("seeds", [1.0, 1.0, 1.0])
    )
    model = {
        "loss": "cross_entropy",
        "loss_guessed": True,
        "loss_at_start": 2.4,
        "chance_loss": math.log(10),
        "grad_norm": Quantiles(1.0, 1.1, 1.2, 12),
        "total_gain": None,
        "input_grad_norm": 1.0,
        "output_shape": (BATCH, 10),
        "output_op": None,
        **table.get("model", {}),
    }
    model["inputs"] = tuple(InputStatistics(**{**STANDARD, **x}) for x in model.get("inputs", ()))
    if isinstance(model["grad_norm"], dict):
        model["grad_norm"] = Quantiles(**model["grad_norm"])
    if "gradient_check" in model:
        model["gradient_check"] = GradientCheck(**model["gradient_check"])
    return Measurements(ModelMeasurements(**model), layers, seeds, after_steps=after_steps)


def _baseline(table: Table) -> Baseline:
    """A table of its own, with codes of `findings` and the number of `runs` (seeds)."""
    measured = _measurements(table)
    findings = frozenset(table.get("findings", ()))
    return Baseline("b1", measured.layers, findings, table.get("runs", 3), measured.model.loss)


def _time_steps(table: Table) -> TimeSteps | None:
    """`steps` norms, falling (or rising) by a factor for every step back from the last."""
    if "steps" not in table:
        return None
    back = range(table["steps"] - 1, -1, -1)
    return TimeSteps(
        memory=tuple(table["memory"] ** k for k in back),
        gradient=tuple(table.get("step_gradient", table["memory"]) ** k for k in back),
    )


def _ratio(before: float | None, after: float | None) -> float | None:
    return before / after if before is not None and after else None


def _stretched(norm: float | None, last: float | None, factor: float) -> float | None:
    """The norm's distance from the last one, in decades, times a factor."""
    if not norm or not last:
        return norm
    return float(last * (norm / last) ** factor)


def _trial(runs: Mapping[str, bool]) -> Trial:
    return Trial(
        "gaussian_classes",
        100,
        tuple(
            TrialRun(name, 0.01, (2.3, 2.0), (1.0, 1.0), None, learned, 1.0 if learned else 0.0)
            for name, learned in runs.items()
        ),
    )
