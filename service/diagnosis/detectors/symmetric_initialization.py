"""Units of a layer that start alike and stay alike."""

from __future__ import annotations

from service.diagnosis import thresholds, wording
from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.domain.findings import Severity
from service.domain.measurements import LayerMeasurements, ParameterStatistics


class SymmetricInitialization:
    """
    ### What it sees
    Weights whose rows receive the same gradient (relative spread under 1e-3), or that are all zero
    with no gradient coming. The last layer is left out: its rows get their gradients from the
    targets.

    ### Why it matters
    Units that start equal and receive equal gradients stay equal: a layer of n units computes one.

    ### Evidence
    `unit_spread` per parameter: √(mean ‖gᵢ - ḡ‖²) / √(mean ‖gᵢ‖²) over the rows gᵢ of the gradient.

    ### Known false alarms
    A constant layer between random ones is told apart by its neighbours and is not reported.
    Zero-initialised branches and last layers receive gradients of their own after two optimizer
    steps, and the model is then judged by those.

    ### References
    Goodfellow, Bengio & Courville 2016, Deep Learning, section 8.4.
    """

    code = "symmetric_initialization"
    title = "Units are symmetric"

    def read(self, case: Case) -> Reading:
        """Certain as soon as one hidden weight is symmetric."""
        alike = [
            (layer, parameter)
            for layer in case.flow.layers[:-1]
            for parameter in layer.parameters
            if _symmetric(parameter)
        ]
        if not alike:
            return QUIET
        layers = list({layer.index: layer for layer, _ in alike}.values())
        found = finding(
            self,
            Severity.ERROR,
            0.97,
            f"all units of {wording.span(layers)} receive the same gradient. "
            "They start alike and no step can tell them apart.",
            layers=layers,
            evidence={
                "unit_spread": {p.name: p.unit_spread for _, p in alike},
                "threshold": thresholds.SYMMETRY,
            },
            causes=[*wording.zero_weights(case.measured.layers), *_constant(layers)],
        )
        return Reading(found, 0.97, 0.97)


def _symmetric(parameter: ParameterStatistics) -> bool:
    if len(parameter.shape) < 2 or parameter.shape[0] < 2 or not parameter.connected:
        return False
    if parameter.unit_spread is not None:
        return parameter.unit_spread <= thresholds.SYMMETRY
    return parameter.rms == 0.0 and parameter.grad_norm == 0.0


def _constant(layers: list[LayerMeasurements]) -> list[str]:
    if all((w := wording.main_weight(x)) is None or w.rms == 0.0 for x in layers):
        return []
    return [f"The rows of the weights of {wording.span(layers)} are equal (a constant fill)."]
