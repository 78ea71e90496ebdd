"""Batch normalization over too few values."""

from __future__ import annotations

from service.diagnosis import thresholds, wording
from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.domain.findings import Severity
from service.domain.measurements import LayerMeasurements


class SmallBatchNormalization:
    """
    ### What it sees
    Batch normalizations in training mode, and over how many values they take each mean: samples ×
    places, or samples alone. Only a batch size that the request names is judged; the probe's own
    choice says nothing about yours.

    ### Why it matters
    The mean of few values is noise. Every layer then adds noise of its own and, over B values,
    raises the squared gradient by (B-2)/(B-3) even without an activation: 1.2 at 8, 2 at 4.
    Running means, used in evaluation, no longer agree with what was trained.

    ### Evidence
    `layers` with their number of `values`, `batch_size`.

    ### Known false alarms
    Convolutions have many places a sample; they are told as information from fewer than eight
    samples, since places of one image are alike. Batches synchronised over devices
    (SyncBatchNorm) are larger than one device shows. This never says that training fails.

    ### References
    Ioffe & Szegedy 2015 (arXiv 1502.03167); Wu & He 2018, Group Normalization (arXiv 1803.08494):
    ImageNet error 23.6 % at 32 samples, 24.8 % at 8, 27.3 % at 4, 34.7 % at 2.
    """

    code = "small_batch_normalization"
    title = "Batch normalization over few values"

    def read(self, case: Case) -> Reading:
        """Judge the named batch size."""
        samples = case.plan.batch_size
        counts = [(x, count) for x in case.measured.layers if (count := values_normalized(x))]
        if samples is None or not counts:
            return QUIET
        least = thresholds.FEW_VALUES
        few = [(x, count) for x, count in counts if count < least]
        if not few and samples >= least:
            return QUIET
        concerned = few or counts
        layers = [x for x, _ in concerned]
        fewest = min(count for _, count in concerned)
        what = "a value" if fewest == 1 else f"{fewest} values"
        return Reading(
            finding(
                self,
                Severity.WARNING if few else Severity.INFO,
                0.9,
                f"{wording.span(layers)} normalizes over {what} from {samples} samples. "
                f"Under {least} the statistics are mostly noise.",
                layers=layers,
                evidence={
                    "layers": {x.name: count for x, count in concerned},
                    "batch_size": samples,
                    "threshold": least,
                },
                causes=[f"The batch has {samples} samples."],
            )
        )


def values_normalized(layer: LayerMeasurements) -> int | None:
    """Values per mean of a batch normalization in training mode; None without one."""
    found = layer.batch_normalization
    return found.values if found is not None and found.own_statistics else None
