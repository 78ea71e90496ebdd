"""Stored files."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from api.schemas.responses.wire import Out


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
