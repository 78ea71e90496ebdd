"""Units that are zero whatever comes in."""

from __future__ import annotations

from service.diagnosis import thresholds, wording
from service.diagnosis.detector import QUIET, Case, Reading, finding, grade
from service.domain.findings import Severity
from service.domain.measurements import LayerMeasurements


class DeadUnits:
    """
    ### What it sees
    The share of a layer's units (features, channels) that are exactly zero on every sample of the
    probe. Half of a ReLU layer's *elements* being zero is as it should be and no finding.

    ### Why it matters
    A unit that is always zero has zero gradient: it cannot come back. A layer of only dead units
    cuts the model in two.

    ### Evidence
    `dead_unit_fraction` of the worst layer, `layers` with their shares.

    ### Known false alarms
    Few samples leave some units untouched by chance; narrow, deep ReLU stacks have some dead units
    and train. Layers that output zero because their weights start at zero are judged after two
    optimizer steps. A layer of only dead units with a way round it, as a zero-initialised residual
    branch, is told as information; so is one whose weights receive a gradient all the same, since
    its activation is not flat at zero (tanh, GELU): the first step moves it.

    ### References
    Lu et al. 2020, Dying ReLU and Initialization (arXiv 1903.06733).
    """

    code = "dead_units"
    title = "Units are dead"

    def read(self, case: Case) -> Reading:
        """Judge the layer with the largest share of dead units."""
        shares = [(x, x.activation.dead_unit_fraction or 0.0) for x in case.flow.layers]
        worst, share = max(shares, key=lambda pair: pair[1], default=(None, 0.0))
        if worst is None or share < thresholds.DEAD_UNITS_WORTH_TELLING:
            return QUIET
        limits = thresholds.DEAD_UNITS
        cuts = _cuts(worst, case)
        silent = share >= thresholds.ALL_DEAD
        harmless = silent and (not cuts or _moves(worst))
        warning = 0.0 if harmless else limits.at_risk(share)
        error = warning if silent else 0.0
        told = [(x, s) for x, s in shares if s >= thresholds.DEAD_UNITS_WORTH_TELLING]
        concerned = [x for x, _ in told]
        found = finding(
            self,
            grade(error, warning) or Severity.INFO,
            max(warning, 0.9),
            f"{share:.0%} of the units of {worst.name} are zero on the whole probe. "
            f"Training is at risk from {limits.warning:.0%} in one layer.",
            layers=concerned,
            evidence={
                "dead_unit_fraction": share,
                "layers": {x.name: s for x, s in told},
                "threshold": limits.warning,
            },
            causes=[
                *wording.zero_weights(case.measured.layers),
                *(
                    f"{wording.nonlinearity(x)} at {x.name} receives only what it maps to zero."
                    for x in concerned[:1]
                    if x.nonlinearity
                ),
            ],
        )
        return Reading(found, error, warning)


def _cuts(layer: LayerMeasurements, case: Case) -> bool:
    """True when nothing goes round the dead layer: no gradient arrives before it."""
    before = [x for x in case.flow.layers if x.depth < layer.depth]
    return all(not x.gradient.norm for x in before)


def _moves(layer: LayerMeasurements) -> bool:
    """True when a gradient reaches its weights; biases alone would move all units alike."""
    return any(x.grad_norm for x in layer.parameters if len(x.shape) > 1)
