"""A layer passes more or less of the gradient than random weights of its size would."""

from __future__ import annotations

import math

from service.diagnosis import thresholds, wording
from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.domain.findings import Severity
from service.domain.measurements import LayerMeasurements
from service.theory.prediction import Prediction, predict


class GainOffTheory:
    """
    ### What it sees
    Layers whose measured gain differs from the predicted one by more than three standard deviations
    of its scatter at finite width, and by more than a tenth. The prediction knows only sizes: root
    mean square of weights, biases and input, fan-in, activation, normalization.

    ### Why it matters
    At initialization measurement and theory agree within a few percent. Where they part, the layer
    is not what its sizes suggest: weights with structure (trained, constant, of low rank, an
    identity), dead or one-sided pre-activations, inputs that point all one way.

    ### Evidence
    Per layer `measured`, `predicted`, `ratio` and `error_bar` (a factor); `part`, the one that
    parts most: the weights, or what follows them.

    ### Known false alarms
    Trained weights are no random numbers, and are told here without being wrong; so are identity
    and other structured initializations chosen on purpose. It is information and never counts
    against a model.

    ### References
    Schoenholz et al. 2017 (arXiv 1611.01232); Hanin & Nica 2020 (arXiv 1812.05994).
    """

    code = "gain_off_theory"
    title = "Gradients do not follow theory"

    def read(self, case: Case) -> Reading:
        """Compare every layer that theory covers."""
        off = [
            (layer, gain, prediction)
            for layer in case.measured.layers
            if (gain := layer.gradient.gain)
            and (prediction := predict(layer))
            and prediction.gain > 0.0
            and _parts(gain, prediction)
        ]
        if not off:
            return QUIET
        layer, gain, prediction = max(off, key=lambda one: _deviation(one[1], one[2]))
        ratio = gain / prediction.gain
        bar = math.exp(thresholds.THEORY_DEVIATIONS * prediction.log_std)
        part = _part(layer, ratio)
        found = finding(
            self,
            Severity.INFO,
            0.95,
            f"{layer.name} passes {wording.times(ratio)} what random weights of its size would: "
            f"{gain:.3g} measured, {prediction.gain:.3g} predicted. Initializations of this width "
            f"scatter by a factor {bar:.2g} at most ({thresholds.THEORY_DEVIATIONS:g} standard "
            "deviations).",
            layers=[one for one, _, _ in off],
            evidence={
                "measured": gain,
                "predicted": prediction.gain,
                "ratio": ratio,
                "error_bar": bar,
                "part": part,
            },
            causes=[_cause(layer, part)],
        )
        return Reading(found)


def _deviation(gain: float, prediction: Prediction) -> float:
    """In standard deviations, ≥ 0."""
    return abs(math.log(gain / prediction.gain)) / max(prediction.log_std, 1e-12)


def _parts(gain: float, prediction: Prediction) -> bool:
    far = abs(gain / prediction.gain - 1.0) > thresholds.THEORY_WORTH_TELLING
    return far and _deviation(gain, prediction) > thresholds.THEORY_DEVIATIONS


def _part(layer: LayerMeasurements, ratio: float) -> str:
    """weight, when that part's own factor is off by at least half as much; else the rest."""
    factor = (layer.gradient.gain_parts or {}).get("weight")
    weight = wording.main_weight(layer)
    if not factor or weight is None or not weight.rms or not layer.reads:
        return "unknown"
    expected = math.sqrt(layer.reads) * weight.rms
    return "weight" if 2 * abs(math.log(factor / expected)) >= abs(math.log(ratio)) else "rest"


def _cause(layer: LayerMeasurements, part: str) -> str:
    if part == "weight":
        return f"The weights of {layer.name} are no independent random numbers."
    if part == "rest":
        return (
            f"What reaches {wording.nonlinearity(layer)} at {layer.name} is not spread normally "
            "around 0 as random weights make it."
        )
    return f"Weights or inputs of {layer.name} have structure."
