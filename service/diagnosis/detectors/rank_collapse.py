"""With depth, the layers no longer tell inputs apart."""

from __future__ import annotations

from service.diagnosis import thresholds, wording
from service.diagnosis.detector import QUIET, Case, Reading, finding, grade
from service.diagnosis.profile import distinction_loss


class RankCollapse:
    """
    ### What it sees
    How many decades 1 - correlation (mean pairwise cosine between samples) loses over depth,
    median over the initializations.

    ### Why it matters
    In the ordered phase all inputs converge to one vector; the last layers then see the same
    number for every sample, down to the resolution of float32, and no gradient can bring back what
    is not there.

    ### Evidence
    `decades` with range over seeds, `correlation` of the least telling layer.

    ### Known false alarms
    Activations with a positive mean (sigmoid, softplus, ReLU) correlate by their mean alone: a
    correlation of .99 is no collapse. A bias that outweighs the signal in the last layer is left
    out.

    ### References
    Schoenholz et al. 2017 (arXiv 1611.01232); Daneshmand et al. 2020 (arXiv 2003.01652); Dong et
    al. 2021 (arXiv 2103.03404).
    """

    code = "rank_collapse"
    title = "Inputs are no longer told apart"

    def read(self, case: Case) -> Reading:
        """Judge what is lost of 1 - correlation."""
        lost = distinction_loss(case.flow)
        if lost is None:
            return QUIET
        limits = thresholds.DISTINCTION_LOSS
        error, warning = limits.fails(lost.median), limits.at_risk(lost.median)
        severity = grade(error, warning)
        if severity is None:
            return Reading(error=error, warning=warning)
        known = [x for x in case.flow.layers if x.activation.correlation is not None]
        worst = max(known, key=lambda x: x.activation.correlation or 0.0)
        found = finding(
            self,
            severity,
            warning,
            f"at {worst.name} two samples differ {wording.power(-lost.median / 2)} times as much "
            "as at best, relative to their size. 1 - correlation falls "
            f"{lost.median:.1f} decades ({lost.low:.1f} to {lost.high:.1f} over initializations); "
            f"training is at risk from {limits.warning}.",
            layers=[worst],
            evidence={
                "decades": lost.median,
                "decades_low": lost.low,
                "decades_high": lost.high,
                "correlation": worst.activation.correlation,
                "threshold": limits.warning,
            },
            causes=list(wording.default_initialization(case.measured.layers)),
        )
        return Reading(found, error, warning)
