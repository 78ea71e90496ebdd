"""What to do about it, and what that did."""

from __future__ import annotations

from pydantic import Field

from api.schemas.responses.wire import Json, JsonOrNull, Number, Out


class EffectOut(Out):
    """What a recommendation did when it was applied and measured."""

    verified: bool | None
    """null when nothing could be measured."""
    before: Json
    """verdict, total_gain, median_gain and loss_at_start as it came, and on how many seeds and
    batches."""
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
    """Short training before and after, on the same batches: the loss at every step of the optimizer
    that came farthest with the changes, and which optimizers learned. A model whose verdict does
    not rest on its training is trained at the rates that suit the changed one."""
    patched_spec: JsonOrNull
    """The repaired spec, expanded."""
    layers_after: tuple[LayerAfterOut, ...] = ()
    """The layers of the repaired model, in order; empty where they were not measured."""
    weights: str | None = None
    """Id of the repaired weights among the stored files, as `weights` of a spec takes it; deleted
    with the analysis. null where they were not kept."""
    links: PrescriptionLinksOut
    """Where to take it away."""
