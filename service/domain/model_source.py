"""Where a model comes from."""

from __future__ import annotations

from dataclasses import dataclass

from service.domain.architecture import Architecture


@dataclass(frozen=True, slots=True)
class SpecSource:
    """A model described layer by layer; the probe builds and initializes it."""

    architecture: Architecture
    """Validated and expanded."""


@dataclass(frozen=True, slots=True)
class ArtifactSource:
    """A model file stored before."""

    artifact_id: str
    """"sha256:" and 64 hexadecimal digits."""
    format: str
    """torchscript (exported_program is not yet supported)."""


ModelSource = SpecSource | ArtifactSource
