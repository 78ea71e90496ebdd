"""What a file is, told by its content: nobody has to say, and nobody can say wrong."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from service.intake.archive import open_zip

MAX_HEADER = 4 << 20
"""Bytes of a safetensors header: some 40,000 tensors."""


def told_by_content(path: Path) -> str:
    """torchscript, exported_program, safetensors, npz or unknown. Nothing is loaded or run."""
    members = _members(path)
    if members is None:
        return "safetensors" if _is_safetensors(path) else "unknown"
    return next((name for name, fits in _ZIPS if fits(members)), "unknown")


def _members(path: Path) -> Sequence[str] | None:
    try:
        with open_zip(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return None


def _inside(members: Sequence[str]) -> list[str]:
    # torch puts everything into one folder named after the file.
    return [member.partition("/")[2] for member in members]


def _is_torchscript(members: Sequence[str]) -> bool:
    inside = _inside(members)
    return "constants.pkl" in inside and any(name.startswith("code/") for name in inside)


def _is_exported_program(members: Sequence[str]) -> bool:
    # torch ≥ 2.9 writes archive_format and models/*.json, older ones the program at the top.
    names = {*members, *_inside(members)}
    return "serialized_exported_program.json" in names or (
        "archive_format" in names
        and any(name.startswith("models/") and name.endswith(".json") for name in names)
    )


def _is_npz(members: Sequence[str]) -> bool:
    return bool(members) and all(name.endswith(".npy") for name in members)


_ZIPS: tuple[tuple[str, Callable[[Sequence[str]], bool]], ...] = (
    ("torchscript", _is_torchscript),
    ("exported_program", _is_exported_program),
    ("npz", _is_npz),
)


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER, path.stat().st_size - 8):
            return False
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            return False
    return isinstance(header, dict) and all(
        name == "__metadata__" or (isinstance(entry, dict) and "data_offsets" in entry)
        for name, entry in header.items()
    )
