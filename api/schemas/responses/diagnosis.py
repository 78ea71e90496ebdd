"""The verdict, with everything that it rests on."""

from __future__ import annotations

from api.schemas.responses.findings import FindingOut, SuppressedOut
from api.schemas.responses.layers import LayerOut
from api.schemas.responses.recommendations import PrescriptionOut, RecommendationOut
from api.schemas.responses.wire import JsonOrNull, Number, Out


class QuantilesOut(Out):
    """Of one number over its repetitions."""

    p50: Number
    """Median, ≥ 0."""
    p90: Number
    """Nine in ten are smaller, ≥ 0."""
    max: Number
    """Largest, ≥ 0."""
    n: int
    """Number of finite repetitions, ≥ 0."""


class GradientCheckOut(Out):
    """A derivative of the loss along one direction, by autograd and by a two-sided difference."""

    autograd: Number
    """By autograd; in units of the loss."""
    difference: Number
    """By the difference; in units of the loss."""
    relative_error: Number
    """0 … 2."""
    blocked: bool
    """True when the model itself stops gradients on the way (detach, no_grad)."""


class ModelDiagnosisOut(Out):
    """Measurements of the whole model."""

    loss: str
    """The loss that was used."""
    loss_at_start: Number
    """Mean over seeds and batches, in units of the loss."""
    chance_loss: Number
    """What knowing nothing costs, in units of the loss; null where undefined."""
    grad_norm: QuantilesOut
    """Norm of the gradient of all parameters, over seeds and batches."""
    total_gain: Number
    """Gradient norm at the first layer's output over that at the last layer's output, ≥ 0."""
    trainable_depth: JsonOrNull = None
    """How many layers the initialization trains to: predicted, low, high (null: no end within 1000
    layers), actual; null where theory does not cover the model."""
    gradient_check: GradientCheckOut | None = None
    """null for large models, and where the difference does not settle."""


class DiagnosisOut(Out):
    """Will this model train as it stands?"""

    verdict: str
    """healthy, at_risk, unhealthy or inconclusive."""
    confidence: Number
    """Probability that the verdict is right, 0 … 1."""
    decided_by: str
    """static or trial."""
    summary: str
    """One sentence."""
    suppressed: tuple[SuppressedOut, ...]
    """Findings the caller chose to ignore."""
    findings: tuple[FindingOut, ...]
    """Worst first."""
    recommendations: tuple[RecommendationOut, ...]
    """In order of preference."""
    prescription: PrescriptionOut | None
    """null when healthy, or not known."""
    model: ModelDiagnosisOut
    """What holds of the whole model."""
    layers: tuple[LayerOut, ...]
    """In the order in which the model computes them."""
