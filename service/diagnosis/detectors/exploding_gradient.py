"""The gradient grows on its way to the first layers, or inside a recurrent layer."""

from __future__ import annotations

from service.diagnosis import thresholds, wording
from service.diagnosis.detector import QUIET, Case, Limits, Reading, finding, grade
from service.diagnosis.profile import (
    Decades,
    gradient_growth,
    growth_in_time,
    growth_over_steps,
    rescaling,
    signal_growth,
)
from service.domain.measurements import LayerMeasurements, Measurements


class ExplodingGradient:
    """
    ### What it sees
    Three growths, in decades, median over the initializations: of the gradient from the last
    layer to the one where it is largest; the part of it that growing activations do not explain
    (the chaotic phase); and the growth inside each recurrent layer over its time steps, of a
    gradient that stands at the last one (geometric mean over the initializations).

    ### Why it matters
    A step that suits the last layers throws the first ones away. When activations grow by the same
    factor, a smaller step, clipping or Adam may still cope; in the chaotic phase nothing that
    rescales helps, because neighbouring inputs have unrelated gradients.

    ### Evidence
    `kind` (scale, chaos or time), `decades` with its range over seeds, `activation_decades`,
    `trainable_depth` where theory covers the stack.

    ### Known false alarms
    Batch normalization at initialization explodes mildly (√1.467 a layer for ReLU) and trains up
    to some 40 layers. Where one meets a signal of tiny scale, behind a stack that saturates, it
    divides by that scale; the free scale of the weights before it makes up for that in a few steps,
    so a factor of more than 10 is not counted. Pre-norm residual streams grow by √(L+1). One narrow
    or small-scale layer (an embedding of std 0.02 before a normalization) raises the gradient once:
    activations grow there by the same factor.

    ### References
    Pascanu et al. 2013 (arXiv 1211.5063); Poole et al. 2016 (arXiv 1606.05340); Yang et al. 2019
    (arXiv 1902.08129); Philipp et al. 2018 (arXiv 1712.05577).
    """

    code = "exploding_gradient"
    title = "Gradients explode"

    def read(self, case: Case) -> Reading:
        """Judge the three growths; the worst one speaks."""
        readings = [
            self._over_depth(case),
            self._chaos(case),
            *(self._in_time(case.measured, layer) for layer in case.measured.layers),
        ]
        return max(readings, key=lambda reading: (reading.error, reading.warning))

    def _over_depth(self, case: Case) -> Reading:
        growth = gradient_growth(case.measured)
        if growth is None:
            return QUIET
        detail = (
            f"the gradient grows {wording.power(growth.median)}-fold from the last layer to "
            f"{_peak(case.measured).name}, activations with it."
        )
        return self._judge(case.measured, "scale", growth, thresholds.GRADIENT_GROWTH, detail)

    def _chaos(self, case: Case) -> Reading:
        growth, signal = gradient_growth(case.measured), signal_growth(case.measured)
        if growth is None or signal is None:
            return QUIET
        explained = max(0.0, signal.median) + rescaling(case.measured)
        excess = Decades(growth.median - explained, growth.low - explained, growth.high - explained)
        detail = (
            f"the gradient grows {wording.power(growth.median)}-fold towards "
            f"{_peak(case.measured).name} while activations keep their scale."
        )
        return self._judge(case.measured, "chaos", excess, thresholds.EXCESS_GROWTH, detail)

    def _in_time(self, measured: Measurements, layer: LayerMeasurements) -> Reading:
        growth, limits = growth_in_time(measured, layer), thresholds.TIME_GROWTH
        if layer.time_steps is not None:
            of_memory = growth_over_steps(layer.time_steps.memory)
            if of_memory is not None:
                growth, limits = Decades(of_memory, of_memory, of_memory), thresholds.STEP_GROWTH
        if growth is None:
            return QUIET
        steps = layer.output_shape[1] if len(layer.output_shape) > 2 else None
        over = f" over {steps} time steps" if steps else ""
        detail = f"the gradient grows {wording.power(growth.median)}-fold in {layer.name}{over}."
        return self._judge(measured, "time", growth, limits, detail, layer)

    def _judge(
        self,
        measured: Measurements,
        kind: str,
        growth: Decades,
        limits: Limits,
        detail: str,
        layer: LayerMeasurements | None = None,
    ) -> Reading:
        error, warning = limits.fails(growth.median), limits.at_risk(growth.median)
        severity = grade(error, warning)
        if severity is None:
            return Reading(error=error, warning=warning)
        signal = signal_growth(measured)
        growing = [x for x in measured.layers if (x.gradient.gain or 0.0) > 1.0]
        found = finding(
            self,
            severity,
            warning,
            f"{detail} That is {growth.median:.1f} decades ({growth.low:.1f} to "
            f"{growth.high:.1f} over initializations); training is at risk from "
            f"{limits.warning} and fails from about {limits.error}."
            f"{'' if layer else wording.reach(measured)}",
            layers=[layer] if layer else growing or [_peak(measured)],
            evidence={
                "kind": kind,
                "decades": growth.median,
                "decades_low": growth.low,
                "decades_high": growth.high,
                "activation_decades": signal.median if signal else None,
                "threshold": limits.warning,
                "trainable_depth": measured.model.trainable_depth,
            },
            causes=list(wording.gain_causes([layer] if layer else growing)),
        )
        return Reading(found, error, warning)


def _peak(measured: Measurements) -> LayerMeasurements:
    return max(measured.layers, key=lambda layer: layer.gradient.norm or 0.0)
