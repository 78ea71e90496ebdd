"""Where a model comes from."""

from __future__ import annotations

from dataclasses import dataclass

from service.domain.architecture import Architecture, resolve
from service.domain.request import ModelRequest


@dataclass(frozen=True, slots=True)
class SpecSource:
    """A model described layer by layer; the probe builds and initializes it."""

    architecture: Architecture
    """Validated and expanded."""
    weights_id: str | None = None
    """Artifact id of a safetensors file with its parameters; None: initialized afresh."""


@dataclass(frozen=True, slots=True)
class ArtifactSource:
    """A model file stored before."""

    artifact_id: str
    """"sha256:" and 64 hexadecimal digits."""
    format: str
    """torchscript or exported_program."""


ModelSource = SpecSource | ArtifactSource

EXPORTED_PROGRAM = "exported_program"
"""`ArtifactSource.format` of a .pt2."""


def model_source(model: ModelRequest, model_format: str) -> ModelSource:
    """What a request's model means; a worker reads it again from the stored request.

    Raises InvalidRequest with pointers relative to the model.
    """
    if model.artifact_id is not None:
        return ArtifactSource(model.artifact_id, model_format)
    return SpecSource(resolve(model.spec or {}), model.weights_id)
