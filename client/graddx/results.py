"""What the server answers, as frozen dataclasses.

Fields newer than this client are in `raw`; fields that an older server does not send have their
default. Codes, kinds and verdicts are plain text: new ones may come. A number is None when it is
not finite or does not apply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from graddx.statistics import Layer, ModelDiagnosis

FINAL = ("succeeded", "failed", "cancelled")
"""Statuses in which an analysis stays."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an analysis failed."""

    code: str
    """Stable: model_raised, probe_timeout …"""
    title: str = ""
    """The same in a few words."""
    detail: str = ""
    """What happened."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What measured."""

    version: str = ""
    """Of graddx."""
    torch: str | None = None
    """torch.__version__."""
    device: str | None = None
    """cpu."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The model that was analysed."""

    format: str | None = None
    """spec or torchscript."""
    sha256: str | None = None
    """Of the canonical spec, or of the file; 64 hexadecimal digits."""
    parameters: int | None = None
    """Number of parameter elements."""
    layers: int | None = None
    """Number of layers."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The analysis it was compared with."""

    id: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What the answer cost."""

    wall_seconds: float | None = None
    """From claim to report, s."""
    device: str = ""
    """cpu."""
    peak_memory_mb: float | None = None
    """Largest resident set of the child, MiB."""
    stages: Mapping[str, float | None] = field(default_factory=dict)
    """Seconds per stage."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem, with its numbers."""

    code: str
    """Stable: vanishing_gradient …"""
    severity: str
    """error, warning or info."""
    confidence: float | None = None
    """Probability that the finding is true, 0 … 1."""
    layers: tuple[str, ...] = ()
    """Layers concerned, in order; empty: the whole model."""
    title: str = ""
    """A few words."""
    detail: str = ""
    """Numbers, threshold and its source."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """The numbers behind it."""
    causes: tuple[str, ...] = ()
    """Why, one sentence each."""
    docs: str = ""
    """Where findings of this code are explained: a path on the server."""
    reason: str = ""
    """Of a suppressed finding: the caller's own."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a recommendation did when it was applied and measured."""

    verified: bool | None = None
    """None when nothing could be measured."""
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    resolved: tuple[str, ...] = ()
    """Finding codes that went away."""
    introduced: tuple[str, ...] = ()
    """Finding codes that appeared."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One change, concrete enough to paste."""

    id: str
    """r1, r2 … in order of preference."""
    kind: str
    """initializer, activation, clipping, normalization, residual …"""
    layers: tuple[str, ...] = ()
    """Layers it changes; empty: the training loop."""
    title: str = ""
    """A few words."""
    why: str = ""
    """The reason, with numbers."""
    resolves: tuple[str, ...] = ()
    """Finding codes it is meant to cure."""
    change: Mapping[str, Any] = field(default_factory=dict)
    """The change in numbers."""
    patch: tuple[Mapping[str, Any], ...] | None = None
    """RFC 6902 operations on the submitted spec; None where there is none."""
    code: str = ""
    """PyTorch source to paste."""
    effect: Effect | None = None
    """None until it was applied and measured."""


@dataclass(frozen=True, slots=True)
class PrescriptionLinks:
    """Where the repaired model is: paths on the server."""

    spec: str | None = None
    """The repaired spec as a file; None for uploaded files."""
    patch: str | None = None
    """RFC 6902 operations on the submitted spec; None for uploaded files."""
    code: str | None = None
    """PyTorch source; None for uploaded files."""
    state_dict: str | None = None
    """The weights as a safetensors file; None where they were not kept."""


@dataclass(frozen=True, slots=True)
class LayerAfter:
    """One layer of the repaired model, measured on the same initializations and batches."""

    name: str
    """As in the submitted model."""
    gradient_norm: float | None = None
    """Frobenius norm of the gradient at its output, of a batch, ≥ 0."""
    gradient_norm_range: tuple[float | None, float | None] | None = None
    """Lowest and highest of it over seeds and batches."""
    gain: float | None = None
    """Gradient norm at the layer's input over that at its output, this path alone, ≥ 0."""
    activation_rms: float | None = None
    """Root mean square of the layer's output, ≥ 0."""
    saturated_fraction: float | None = None
    """Share in the nonlinearity's flat region, 0 … 1."""
    dead_unit_fraction: float | None = None
    """Share of units that are 0 on the whole probe, 0 … 1."""


@dataclass(frozen=True, slots=True)
class Prescription:
    """The smallest verified set of changes that makes the model train."""

    recommendations: tuple[str, ...] = ()
    """Their ids."""
    verdict_after: str = ""
    """Of the changed model: healthy, or at_risk where nothing permitted heals an unhealthy one."""
    trial: Mapping[str, Any] | None = None
    """Short training before and after."""
    patched_spec: Mapping[str, Any] | None = None
    """The repaired spec, expanded."""
    layers_after: tuple[LayerAfter, ...] = ()
    """The layers of the repaired model, in order; empty where they were not measured."""
    weights: str | None = None
    """Id of the repaired weights among the stored files, as `weights` of a spec takes it; None
    where they were not kept."""
    links: PrescriptionLinks = field(default_factory=PrescriptionLinks)
    """Where to take it away."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Will this model train as it stands?"""

    verdict: str
    """healthy, at_risk, unhealthy or inconclusive."""
    confidence: float | None = None
    """Probability that the verdict is right, 0 … 1."""
    decided_by: str = ""
    """static or trial."""
    summary: str = ""
    """One sentence."""
    suppressed: tuple[Finding, ...] = ()
    """Findings the caller chose to ignore, each with its `reason`."""
    findings: tuple[Finding, ...] = ()
    """Worst first."""
    recommendations: tuple[Recommendation, ...] = ()
    """In order of preference."""
    prescription: Prescription | None = None
    """None when healthy, or not known."""
    model: ModelDiagnosis = field(default_factory=ModelDiagnosis)
    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True, slots=True)
class AnalysisHead:
    """An analysis without its result, as in lists."""

    id: str
    status: str
    """queued, running, succeeded, failed or cancelled."""
    stage: str | None = None
    """What a running analysis is doing: load, probe, diagnose, trial, recommend, verify."""
    percent: int | None = None
    """How far a running analysis is, 0 … 99; None otherwise."""
    queue_position: int | None = None
    """While queued: how many analyses are ahead."""
    created_at: datetime | None = None
    """UTC."""
    started_at: datetime | None = None
    """UTC; None while queued."""
    finished_at: datetime | None = None
    """UTC; None until final."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The caller's own key-value pairs."""
    verdict: str | None = None
    """Of a succeeded analysis."""
    passed: bool | None = None
    """No finding at or above `fail_on`, and a verdict that is not inconclusive; None until then."""
    error: Failure | None = None
    """Of a failed analysis."""
    model: ModelFacts = field(default_factory=ModelFacts)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The answer as the server gave it."""

    @property
    def final(self) -> bool:
        """True when nothing more will happen to it."""
        return self.status in FINAL


@dataclass(frozen=True, slots=True)
class Analysis(AnalysisHead):
    """An analysis, with its result when it succeeded."""

    engine: Engine = field(default_factory=Engine)
    cached: bool = False
    """True when answered from an identical finished analysis."""
    notes: tuple[str, ...] = ()
    """What the reader should know."""
    baseline: Baseline | None = None
    """The analysis it was compared with."""
    probe: Mapping[str, Any] | None = None
    """The probe as used; None until succeeded."""
    cost: Cost | None = None
    """None until succeeded."""
    diagnosis: Diagnosis | None = None
    """None until succeeded."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an analysis stands, while it is made."""

    status: str
    """queued, running, succeeded, failed or cancelled."""
    stage: str | None = None
    """What a running analysis is doing."""
    queue_position: int | None = None
    """While queued: how many analyses are ahead."""
    percent: int | None = None
    """0 … 100, growing; None where the server does not say."""
    verdict: str | None = None
    """Of a succeeded analysis."""
    passed: bool | None = None
    """As in the analysis."""

    @property
    def final(self) -> bool:
        """True when nothing more will happen."""
        return self.status in FINAL


@dataclass(frozen=True, slots=True)
class Succeeded(Analysis):
    """An analysis that succeeded: its diagnosis is there."""

    diagnosis: Diagnosis = field(kw_only=True)
    """Will this model train as it stands?"""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored file."""

    id: str
    """"sha256:" and 64 hexadecimal digits of the content."""
    size: int = 0
    """Bytes."""
    format: str = "unknown"
    """torchscript, exported_program, safetensors, npz or unknown; told by content."""
    created_at: datetime | None = None
    """UTC."""
