"""Batches disagree about where to go."""

from __future__ import annotations

import math
from collections.abc import Sequence

from service.diagnosis import thresholds
from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.domain.findings import Severity
from service.domain.measurements import LayerMeasurements


class NoisyGradient:
    """
    ### What it sees
    The gradient's spread over the probe's batches against its mean, at the start, with the answers
    that came with the data. What the mean of a few batches owes to chance is taken off. Drawn
    targets carry nothing to be learned, so without answers there is nothing to see.

    ### Why it matters
    Where the noise of one batch is many times the signal, steps wander: only a smaller rate, more
    momentum or a larger batch averages it out. The noise scale (batch size times noise over signal)
    is the batch size where both are equal.

    ### Evidence
    `noise_to_signal` (squared norms, of one batch), `noise_scale` in samples, `batch_size`,
    `batches`.

    ### Known false alarms
    Single samples are noisy by nature and still train at a small rate. At the end of a training the
    mean gradient goes to zero and noise is all that is left: a trained model says so rightly. Four
    batches resolve no more than ten times as much noise as signal: under sixteen it is information
    only. This never says that training fails.

    ### References
    McCandlish et al. 2018, An Empirical Model of Large-Batch Training (arXiv 1812.06162).
    """

    code = "noisy_gradient"
    title = "The gradient is mostly noise"

    def read(self, case: Case) -> Reading:
        """Compare signal and noise, summed over all parameters."""
        measured = case.measured
        batches = measured.model.grad_norm.n // max(len(measured.seeds), 1)
        ratio = noise_to_signal(measured.layers, batches)
        if ratio is None or not measured.model.answers_given:
            return QUIET
        if ratio < thresholds.NOISE_WORTH_TELLING:
            return QUIET
        samples = measured.model.output_shape[0]
        much = ratio >= thresholds.NOISE_WARNING and batches >= thresholds.ENOUGH_BATCHES
        known = math.isfinite(ratio)
        return Reading(
            finding(
                self,
                Severity.WARNING if much else Severity.INFO,
                0.9 if much else 0.7,
                (
                    f"the gradient of a batch of {samples} has {ratio:.2g} times as much noise as "
                    "signal, in squared norms. "
                    if known
                    else f"over {batches} batches of {samples} the gradients agree no better than "
                    "by chance. "
                )
                + f"From {thresholds.NOISE_WORTH_TELLING:g} times on most of a step is chance.",
                evidence={
                    "noise_to_signal": ratio if known else None,
                    "noise_scale": samples * ratio if known else None,
                    "batch_size": samples,
                    "batches": batches,
                    "threshold": thresholds.NOISE_WORTH_TELLING,
                },
                causes=[
                    f"Batches of {samples} samples are small for this task."
                    if samples < thresholds.USUAL_BATCH
                    else "The samples of a batch ask for different steps, or the answers are noise."
                ],
            )
        )


def noise_to_signal(layers: Sequence[LayerMeasurements], batches: int) -> float | None:
    """tr(Σ) / ‖μ‖² of one batch's gradient, ≥ 0, from each parameter's snr = ‖ḡ‖ / √(mean ‖g - ḡ‖²)
    and norm; infinite when the mean is within chance. With n batches E‖ḡ‖² = ‖μ‖² + tr(Σ)/n and
    E mean‖g - ḡ‖² = tr(Σ)·(n - 1)/n. None for fewer than two batches."""
    if batches < 2:
        return None
    mean, noise = 0.0, 0.0
    for layer in layers:
        for parameter in layer.parameters:
            if parameter.snr is not None and parameter.grad_norm:
                squares = parameter.grad_norm**2 / (1.0 + parameter.snr**2)
                noise += squares
                mean += squares * parameter.snr**2
    if not noise:
        return None
    trace = noise * batches / (batches - 1)
    signal = mean - trace / batches
    return trace / signal if signal > 0 else math.inf
