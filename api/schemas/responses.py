"""What comes back. Each type reads itself off the domain's dataclass of the same fields."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _finite_inside(value: Any) -> Any:
    """JSON without NaN and infinities, whatever its shape."""
    if isinstance(value, dict):
        return {str(name): _finite_inside(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_inside(item) for item in value]
    return _finite(value)


Number = Annotated[float | None, BeforeValidator(_finite)]
"""A finite number, or null when it is not finite or does not apply."""
Json = Annotated[dict[str, Any], BeforeValidator(_finite_inside)]
JsonOrNull = Annotated[dict[str, Any] | None, BeforeValidator(_finite_inside)]


class Out(BaseModel):
    """Frozen; reads attributes."""

    model_config = ConfigDict(frozen=True, from_attributes=True, use_attribute_docstrings=True)


class FailureOut(Out):
    """Why an analysis failed."""

    code: str = Field(examples=["model_raised"])
    """Stable."""
    title: str
    """The same in a few words."""
    detail: str
    """What happened."""


class EngineOut(Out):
    """What measured."""

    version: str
    """Of graddx."""
    torch: str | None
    """torch.__version__; null until a model was loaded."""
    device: str | None
    """cpu; null until a model was loaded."""


class ModelOut(Out):
    """The model that was analysed."""

    format: str | None
    """spec or torchscript; null until known."""
    sha256: str | None
    """Of the file; of a spec (and the id of its weights, when given, as `weights`) as JSON with
    sorted keys and without spaces; null until known."""
    parameters: int | None
    """Number of parameter elements; null until measured."""
    layers: int | None
    """Number of layers; null until measured."""


class BaselineOut(Out):
    """The analysis it was compared with."""

    id: str
    """Of the analysis."""


class CostOut(Out):
    """What the answer cost."""

    wall_seconds: Number
    """From claim to report, s."""
    device: str
    """cpu."""
    peak_memory_mb: Number
    """Largest resident set of the child, MiB."""
    stages: dict[str, Number]
    """Seconds per stage: load, probe, diagnose, trial, recommend."""


class FindingOut(Out):
    """One problem, with its numbers."""

    code: str = Field(examples=["vanishing_gradient"])
    """Stable; see /v1/catalog."""
    severity: str
    """error, warning or info."""
    confidence: Number
    """Probability that the finding is true, 0 … 1."""
    layers: tuple[str, ...]
    """Layers concerned, in order; empty: the whole model."""
    title: str
    """A few words."""
    detail: str
    """Numbers, threshold and its source."""
    evidence: Json
    """The numbers behind it."""
    causes: tuple[str, ...]
    """Why, one sentence each."""
    docs: str = Field(examples=["/guide/detectors.html#vanishing_gradient"])
    """Path on this server of the guide's section on findings of this code."""


class SuppressedOut(FindingOut):
    """A finding the caller chose to ignore."""

    reason: str
    """The caller's own."""


class EffectOut(Out):
    """What a recommendation did when it was applied and measured."""

    verified: bool | None
    """null when nothing could be measured."""
    before: Json
    """verdict, total_gain, median_gain and loss_at_start as it came."""
    after: Json
    """The same once it was applied."""
    resolved: tuple[str, ...]
    """Finding codes that went away."""
    introduced: tuple[str, ...]
    """Finding codes that appeared."""


class RecommendationOut(Out):
    """One change, concrete enough to paste."""

    id: str = Field(examples=["r1"])
    """r1, r2 … in order of preference."""
    kind: str
    """initializer, activation, clipping, normalization, residual …"""
    layers: tuple[str, ...]
    """Layers it changes; empty: the training loop."""
    title: str
    """A few words."""
    why: str
    """The reason, with numbers."""
    resolves: tuple[str, ...]
    """Finding codes it is meant to cure."""
    change: Json
    """The change in numbers."""
    patch: tuple[Json, ...] | None
    """RFC 6902 operations on the submitted spec; null where there is none."""
    code: str
    """PyTorch source to paste."""
    effect: EffectOut | None
    """null until it was applied and measured."""


class PrescriptionLinksOut(Out):
    """Where the repaired model is: paths on this server."""

    spec: str | None
    """The repaired spec as a file; null for uploaded files."""
    patch: str | None
    """RFC 6902 operations on the submitted spec; null for uploaded files."""
    code: str | None
    """PyTorch source; null for uploaded files."""
    state_dict: str | None
    """The weights as a safetensors file; null where they were not kept."""


class LayerAfterOut(Out):
    """One layer of the repaired model, measured on the same initializations and batches."""

    name: str
    """As in the submitted model."""
    gradient_norm: Number
    """Frobenius norm of the gradient at its output, of a batch, ≥ 0."""
    gradient_norm_range: tuple[Number, Number] | None
    """Lowest and highest of it over seeds and batches; null when it was never finite."""
    gain: Number
    """Gradient norm at the layer's input over that at its output, this path alone, ≥ 0."""
    activation_rms: Number
    """Root mean square of the layer's output, ≥ 0."""
    saturated_fraction: Number
    """Share in the nonlinearity's flat region, 0 … 1; null where it has none."""
    dead_unit_fraction: Number
    """Share of units that are 0 on the whole probe, 0 … 1."""


class PrescriptionOut(Out):
    """The smallest verified set of changes that makes the model train."""

    recommendations: tuple[str, ...]
    """Their ids."""
    verdict_after: str
    """Of the changed model: healthy, or at_risk where nothing permitted heals an unhealthy one."""
    trial: JsonOrNull
    """Short training before and after."""
    patched_spec: JsonOrNull
    """The repaired spec, expanded."""
    layers_after: tuple[LayerAfterOut, ...] = ()
    """The layers of the repaired model, in order; empty where they were not measured."""
    weights: str | None = None
    """Id of the repaired weights among the stored files, as `weights` of a spec takes it; deleted
    with the analysis. null where they were not kept."""
    links: PrescriptionLinksOut
    """Where to take it away."""


class QuantilesOut(Out):
    """Of one number over its repetitions."""

    p50: Number
    """Median."""
    p90: Number
    """Nine in ten are smaller."""
    max: Number
    """Largest."""
    n: int
    """Finite repetitions."""


class GradientCheckOut(Out):
    """A derivative of the loss along one direction, by autograd and by a two-sided difference."""

    autograd: Number
    """By autograd; in units of the loss."""
    difference: Number
    """By the difference; likewise."""
    relative_error: Number
    """0 … 2."""
    blocked: bool
    """True when the model itself stops gradients on the way (detach, no_grad)."""


class ModelDiagnosisOut(Out):
    """Measurements of the whole model."""

    loss: str
    """The loss that was used."""
    loss_at_start: Number
    """Mean over seeds and batches."""
    chance_loss: Number
    """What knowing nothing costs; null where undefined."""
    grad_norm: QuantilesOut
    """Norm of the gradient of all parameters, over seeds and batches."""
    total_gain: Number
    """Gradient norm at the first layer's output over that at the last layer's output."""
    trainable_depth: JsonOrNull = None
    """How many layers the initialization trains to: predicted, low, high (null: no end within 1000
    layers), actual; null where theory does not cover the model."""
    gradient_check: GradientCheckOut | None = None
    """null for large models, and where the difference does not settle."""


class ActivationOut(Out):
    """Of a layer's output."""

    mean: Number
    """Mean over batch and units."""
    std: Number
    """≥ 0."""
    rms: Number
    """≥ 0."""
    abs_max: Number
    """Largest magnitude."""
    zero_fraction: Number
    """Share of elements exactly 0, 0 … 1."""
    saturated_fraction: Number
    """Share in the nonlinearity's flat region, 0 … 1; null where it has none."""
    dead_unit_fraction: Number
    """Share of units that are 0 on the whole probe, 0 … 1."""
    correlation: Number
    """Mean pairwise cosine between samples, -1 … 1."""
    nonfinite_count: int
    """NaN and infinite elements."""
    signal_share: Number
    """What the model's own random masks (dropout) leave of the signal: correlation over
    samples of the same batch passed twice, 0 … 1; null for a model without any."""
    attainable_share: Number
    """What the rates of those masks leave of a centred signal whatever the weights, 0 … 1; null
    for a model without any."""


class GradientOut(Out):
    """Of the loss with respect to a layer's output."""

    rms: Number
    """≥ 0."""
    norm: Number
    """Frobenius norm over a batch, ≥ 0."""
    abs_max: Number
    """Largest magnitude."""
    gain: Number
    """Gradient norm at the layer's input over that at its output, this path alone, ≥ 0."""
    gain_quantiles: dict[str, Number]
    """p05, p50, p95 per sample."""
    gain_parts: dict[str, Number] | None
    """weight, activation, normalization, residual: factors of the gain, null where the layer has
    no such part; unexplained: the rest, where it is not 1. null for recurrent and attention."""
    predicted_gain: Number
    """Theory's gain; null where it does not cover the layer."""
    zero_fraction: Number
    """Share of elements exactly 0, 0 … 1."""
    underflow_fraction_fp16: Number
    """Share of nonzero elements that would be 0 in float16, 0 … 1."""
    nonfinite_count: int
    """NaN and infinite elements."""


class ParameterOut(Out):
    """Of one parameter and its gradient."""

    name: str
    """As in named_parameters()."""
    shape: tuple[int, ...]
    """As in the state dict."""
    rms: Number
    """Of the parameter, ≥ 0."""
    grad_norm: Number
    """≥ 0; null when no gradient reached it."""
    grad_rms: Number
    """≥ 0."""
    grad_to_weight: Number
    """Gradient norm over parameter norm, ≥ 0."""
    snr: Number
    """Mean gradient over its spread across batches, ≥ 0."""
    update_ratio: Number
    """Size of the first optimizer step relative to the parameter; null without an optimizer."""
    connected: bool
    """False when the loss does not depend on it."""
    frozen: bool
    """True when it was saved with requires_grad=False."""
    unit_spread: Number
    """How far the rows' gradients differ, 0 … 1; 0: symmetric units."""
    nonfinite_count: int
    """NaN and infinite elements."""
    grad_nonfinite_count: int
    """NaN and infinite elements of its gradient."""
    abs_max: Number
    """Largest magnitude of its elements, over the seeds."""


class TimeStepsOut(Out):
    """Of a recurrent layer's input, step by step."""

    memory: tuple[Number, ...]
    """Norm of what reaches each step of a gradient that stands at the last output alone, ≥ 0; of a
    layer that reads both ways, each counted from its own last output, both together."""
    gradient: tuple[Number, ...]
    """Norm of the gradient of the loss at each step, ≥ 0."""


class LayerOut(Out):
    """Every statistic of one layer."""

    index: int
    """Position in execution order, from 0."""
    name: str
    """Module path."""
    op: str
    """linear, conv2d, lstm, attention, norm …"""
    nonlinearity: str | None
    """What follows, in lower snake case; null: nothing."""
    normalization: str | None
    """batch_norm, layer_norm … or null."""
    residual: bool
    """True when another layer's output is added here."""
    fan_in: int | None
    """Inputs of one unit, ≥ 1; null where there is no weight."""
    fan_out: int | None
    """Outputs that one input reaches, ≥ 1; null where there is no weight."""
    depth: int
    """Longest chain of layers that ends here, from 1."""
    output_shape: tuple[int, ...]
    """With the batch dimension."""
    activation: ActivationOut
    """Of its output."""
    gradient: GradientOut
    """Of the loss with respect to its output."""
    parameters: tuple[ParameterOut, ...]
    """Its own."""
    spread: dict[str, tuple[Number, Number]]
    """Lowest and highest value over seeds and batches, by dotted name (gradient.gain …)."""
    time_steps: TimeStepsOut | None = None
    """null for layers that are not recurrent."""


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


class AnalysisHeadOut(Out):
    """An analysis without its result."""

    id: str
    """Opaque; sorts by creation."""
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    """Where it stands."""
    stage: str | None
    """What a running analysis is doing: load, probe, diagnose, trial, recommend, verify."""
    percent: int | None
    """How far a running analysis is, 0 … 99: what the probe's process has done, not time; null
    otherwise."""
    queue_position: int | None
    """While queued: how many analyses are ahead."""
    created_at: datetime
    """UTC."""
    started_at: datetime | None
    """UTC; null while queued."""
    finished_at: datetime | None
    """UTC; null until final."""
    labels: dict[str, str]
    """The caller's own key-value pairs."""
    verdict: str | None
    """Of a succeeded analysis."""
    passed: bool | None
    """Nothing at or above `fail_on`, and a verdict that is not inconclusive; null until then."""
    error: FailureOut | None
    """Of a failed analysis."""
    model: ModelOut
    """What was analysed, as far as it is known."""


class AnalysisOut(AnalysisHeadOut):
    """An analysis, with its result when it succeeded."""

    engine: EngineOut
    """What made the measurements."""
    cached: bool
    """True when answered from an identical finished analysis."""
    notes: tuple[str, ...]
    """What the reader should know."""
    baseline: BaselineOut | None
    """The analysis it was compared with."""
    probe: JsonOrNull
    """The probe as used; null until succeeded."""
    cost: CostOut | None
    """null until succeeded."""
    diagnosis: DiagnosisOut | None
    """null until succeeded."""


class AnalysesOut(Out):
    """One page, newest first."""

    items: tuple[AnalysisHeadOut, ...]
    """Newest first."""
    next_cursor: str | None
    """For `cursor`; null on the last page."""


class ProgressOut(Out):
    """`data` of an event."""

    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    """Where it stands."""
    stage: str | None
    """What a running analysis is doing: load, probe, diagnose, trial, recommend, verify."""
    queue_position: int | None
    """While queued: how many analyses are ahead."""
    percent: int
    """Stages gone by, and within one what the probe's process has done, 0 … 100; it only grows, and
    is 100 when the analysis is final."""
    verdict: str | None
    """Of a succeeded analysis."""
    passed: bool | None
    """As in the analysis."""


class SideOut(Out):
    """One of two analyses that are compared."""

    id: str
    """Of the analysis."""
    status: str
    """succeeded, failed or cancelled."""
    created_at: datetime
    """UTC."""
    labels: dict[str, str]
    """The caller's own key-value pairs."""
    verdict: str | None
    """Of a succeeded analysis."""
    passed: bool | None
    """As in the analysis."""
    model_sha256: str | None
    """As in the analysis."""


class StatisticChangeOut(Out):
    """One statistic of one layer, in both."""

    statistic: str = Field(examples=["gradient.gain"])
    """Dotted name."""
    before: Number
    """In the first; null where it is not finite, or the layer has it not."""
    after: Number
    """In the second; likewise."""
    ratio: Number
    """after / before; null where that means nothing."""
    before_range: tuple[Number, Number] | None
    """Lowest and highest over seeds and batches; null where it is not known."""
    after_range: tuple[Number, Number] | None
    """Likewise."""
    changed: bool
    """Beyond the spread: the ranges lie further apart than the wider of them is wide; without
    ranges: not the same number."""


class LayerChangeOut(Out):
    """One layer, by its name."""

    name: str
    """Module path."""
    presence: str
    """both, added (only the second has it) or removed (only the first has it)."""
    changed: bool
    """Added, removed, or any statistic changed."""
    statistics: tuple[StatisticChangeOut, ...]
    """Of a layer that both have."""


class FindingChangeOut(Out):
    """A finding code that both have."""

    code: str
    """Stable."""
    before: str
    """Severity."""
    after: str
    """Severity."""


class ComparisonOut(Out):
    """What changed from one analysis to another."""

    before: SideOut
    """The first of the two."""
    after: SideOut
    """The second."""
    same_model: bool
    """The same file, or the same spec."""
    probe_differs: tuple[str, ...]
    """Fields of the probe that differ: sizes of gradients are then not comparable, gains are."""
    appeared: tuple[FindingOut, ...]
    """Findings whose code only the second has."""
    gone: tuple[FindingOut, ...]
    """Findings whose code only the first has."""
    kept: tuple[FindingChangeOut, ...]
    """Findings whose code both have."""
    layers: tuple[LayerChangeOut, ...]
    """In the second's order; those that only the first has come last."""


class HistoryPointOut(Out):
    """The statistic in one analysis."""

    analysis: str
    """Id."""
    created_at: datetime
    """UTC."""
    labels: dict[str, str]
    """The caller's own key-value pairs."""
    verdict: str | None
    """Of the analysis."""
    value: Number
    """null where the layer has it not, or it is not finite."""
    low: Number
    """Lowest over seeds and batches; null where it is not known."""
    high: Number
    """Highest over seeds and batches; null where it is not known."""


class HistoryOut(Out):
    """One page, newest first."""

    layer: str
    """Module path."""
    statistic: str
    """Dotted name."""
    items: tuple[HistoryPointOut, ...]
    """Newest first."""
    next_cursor: str | None
    """For `cursor`; null on the last page."""


class LayersOut(Out):
    """Every per-layer statistic of an analysis."""

    id: str
    """Of the analysis."""
    status: str
    """Layers are there once it succeeded."""
    layers: tuple[LayerOut, ...]
    """In the order in which the model computes them; empty until the analysis succeeded."""


class ArtifactOut(Out):
    """A stored file."""

    id: str = Field(examples=["sha256:" + "0" * 64])
    """"sha256:" and 64 hexadecimal digits of the content."""
    size: int
    """Bytes."""
    format: str
    """torchscript, exported_program, safetensors, npz or unknown; told by content."""
    created_at: datetime
    """UTC."""


class DetectorOut(Out):
    """A finding that can be made."""

    code: str
    """`code` of the findings."""
    title: str
    """A few words."""
    docs: str
    """What it sees, why it matters, evidence, known false alarms, references."""


class RemedyOut(Out):
    """A recommendation that can be made."""

    kind: str
    """`kind` of the recommendations."""
    resolves: tuple[str, ...]
    """Finding codes it can be offered for; empty: it is always offered."""
    docs: str
    """What it changes, and when."""


class ArgumentOut(Out):
    """An argument of a layer or an initializer."""

    name: str
    """As torch names it."""
    required: bool
    """False: it has a default, or is inferred."""
    inferred: bool
    """True: may be left out, the layer's input tells."""
    default: Any
    """null where there is none."""


class LayerTypeOut(Out):
    """A layer a spec may use."""

    name: str
    """`type` in a spec."""
    category: str
    """linear, convolution, recurrent, activation, normalization …"""
    summary: str
    """What it computes."""
    arguments: tuple[ArgumentOut, ...]
    """`args` in a spec."""


class InitializerOut(Out):
    """A function `init` may name."""

    name: str
    """As in torch.nn.init."""
    summary: str
    """What it fills with."""
    arguments: tuple[ArgumentOut, ...]
    """`args` in `init`."""


class CatalogOut(Out):
    """What this server knows, read off its registries."""

    detectors: tuple[DetectorOut, ...]
    """Findings that can be made."""
    remedies: tuple[RemedyOut, ...]
    """Recommendations that can be made."""
    layer_types: tuple[LayerTypeOut, ...]
    """Every type, activations too."""
    activations: tuple[str, ...]
    """Names of the layer types that are activations."""
    initializers: tuple[InitializerOut, ...]
    """Functions that `init` may name."""


class LiveOut(Out):
    """The process runs."""

    status: Literal["ok"] = "ok"


class ReadyOut(Out):
    """Can it take and finish work?"""

    ready: bool
    """Every check is true."""
    checks: dict[str, bool]
    """database, workers …"""
