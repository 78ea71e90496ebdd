"""What a caller asks, after validation: stored with the analysis, read again by the worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from service.domain.findings import Severity
from service.domain.probe_plan import ProbePlan


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """The model as submitted."""

    kind: str
    """spec, artifact or keras."""
    spec: dict[str, Any] | None = None
    """kind spec: {"input": …, "layers": […]} exactly as submitted; kind keras: what the model was
    translated to."""
    weights_id: str | None = None
    """kind spec: "sha256:…" of a safetensors file with the parameters; None: initialized."""
    artifact_id: str | None = None
    """kind artifact: "sha256:…" of a stored file."""
    notes: tuple[str, ...] = ()
    """kind keras: what has no place in a spec."""


@dataclass(frozen=True, slots=True)
class IgnoreRule:
    """A finding the caller accepts."""

    code: str
    """Finding code."""
    layers: str = "*"
    """Shell-style pattern on layer names (fnmatch)."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BaselineRequest:
    """What to compare with."""

    key: str
    """Of a label."""
    value: str
    """Of the same."""
    id: str | None = None
    """The newest analysis of this owner that had succeeded and carries the label when this one was
    asked for; None: there was none."""


ALL_KINDS: tuple[str, ...] = (
    "initializer",
    "activation",
    "clipping",
    "normalization",
    "residual",
    "regularization",
    "recurrent_cell",
    "input_scaling",
    "loss_scaling",
    "learning_rate",
    "pretraining",
)
"""Every kind of recommendation (contract)."""


@dataclass(frozen=True, slots=True)
class AnalysisRequest:
    """One request to analyse one model."""

    model: ModelRequest
    probe: ProbePlan = field(default_factory=ProbePlan)
    allowed_changes: tuple[str, ...] = ALL_KINDS
    """Kinds of recommendation the caller can use."""
    ignore: tuple[IgnoreRule, ...] = ()
    fail_on: Severity | None = Severity.ERROR
    """Lowest severity that makes `passed` false; None: never."""
    labels: dict[str, str] = field(default_factory=dict)
    retain: str = "all"
    """all; statistics: the files it refers to are deleted when it ends; nothing: the analysis too,
    once its final answer was read."""
    baseline: BaselineRequest | None = None
    """None: no comparison."""
    fresh: bool = False
    """True: not to be answered from an identical finished analysis."""

    @property
    def artifact_ids(self) -> frozenset[str]:
        """Every stored file it refers to: model, weights, data."""
        named = (self.model.artifact_id, self.model.weights_id, self.probe.data)
        return frozenset(one for one in named if one is not None)
