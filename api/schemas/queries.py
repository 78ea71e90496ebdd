"""Query parameters; an unknown one is refused, so that a mistyped `gate` cannot pass."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.domain.analysis import Status
from service.domain.findings import Verdict


class Query(BaseModel):
    """Frozen, nothing unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


ModelPath = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f]+$")]


class FormQuery(Query):
    """What a form says besides the analysis."""

    path: ModelPath | None = None
    """Where the file of the model is in the caller's repository, for SARIF, JUnit and Markdown;
    default: model.json or model.pt."""


class HoldQuery(FormQuery):
    """How long to hold the call, and whether to act as a gate."""

    wait: float | None = Field(default=None, ge=0, le=300, allow_inf_nan=False)
    """Seconds to hold the call until the analysis is final, 0 … 300; before `Prefer: wait=N`.
    Default: 0, with gate=true 300."""
    gate: bool = False
    """200 only when it succeeded and passed; 417 when it did not pass, 502 when it failed or was
    cancelled, 504 when `wait` ran out."""


class ReportQuery(Query):
    """How the report is wanted."""

    download: bool = False
    """true: as a file to keep, rather than to be shown."""


class LayersQuery(Query):
    """How the layers are wanted."""

    format: Literal["json", "csv"] | None = None
    """json: every statistic; csv: a table, one row per layer. Default: as `Accept` says, else
    json."""
    limit: int | None = Field(default=None, ge=1, le=1000)
    """Layers per page, 1 … 1000. Default: all of them, sent as they are read."""
    cursor: str | None = Field(default=None, pattern=r"^[0-9]{1,9}$")
    """`next_cursor` of the page before."""


class SpecQuery(Query):
    """Which form of the repaired spec."""

    format: Literal["spec", "patch"] | None = None
    """spec: the whole, expanded; patch: RFC 6902 operations on the submitted one. Default: as
    `Accept` says, else spec."""


Labels = Annotated[
    list[Annotated[str, Field(pattern=r"^[^:\x00]+:[^\x00]*$", max_length=321)]],
    Field(max_length=16),
]
Cursor = Annotated[str, Field(max_length=512, pattern=r"^[A-Za-z0-9_=.~-]+$")]


class HistoryQuery(Query):
    """Which statistic of which layer, in which analyses."""

    layer: Annotated[str, Field(min_length=1, max_length=1024)]
    """Name of the layer, as in the diagnosis."""
    statistic: Annotated[str, Field(min_length=1, max_length=256)]
    """Dotted name as in the layers' JSON and CSV: gradient.gain, activation.rms, weight.grad_norm
    (a parameter by its own last name)."""
    label: Labels = Field(default_factory=list)
    """key:value; given several times, all must match."""
    limit: int = Field(default=100, ge=1, le=1000)
    """Analyses per page, 1 … 1000."""
    cursor: Cursor | None = None
    """`next_cursor` of the page before."""


class ListQuery(Query):
    """Which analyses, and how many."""

    status: Status | None = None
    """Only these."""
    verdict: Verdict | None = None
    """Only these."""
    label: list[Annotated[str, Field(pattern=r"^[^:\x00]+:[^\x00]*$", max_length=321)]] = Field(
        default_factory=list, max_length=16
    )
    """key:value; given several times, all must match."""
    model_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """Only analyses of this model, 64 hexadecimal digits."""
    limit: int = Field(default=20, ge=1, le=100)
    """Analyses per page, 1 … 100."""
    cursor: str | None = Field(default=None, max_length=512, pattern=r"^[A-Za-z0-9_=.~-]+$")
    """`next_cursor` of the page before."""
