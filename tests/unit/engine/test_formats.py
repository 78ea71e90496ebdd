"""Formats told by content, on files made by hand; real ones stand in tests/integration."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import pytest

from service.intake.limits import MAX_DIRECTORY
from service.storage.formats import told_by_content


def _zip(path: Path, *members: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, b"x")
    return path


def _safetensors(path: Path, header: object, length: int | None = None) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + b"\0" * 4)
    return path


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (["net/constants.pkl", "net/code/__torch__.py", "net/data.pkl"], "torchscript"),
        (["net/constants.pkl", "net/data.pkl"], "unknown"),
        (["net/data.pkl", "net/data/0", "net/version"], "unknown"),
        (["net/archive_format", "net/models/model.json"], "exported_program"),
        (["net/archive_format", "net/data/0"], "unknown"),
        (["serialized_exported_program.json", "version"], "exported_program"),
        (["x.npy", "y.npy"], "npz"),
        (["x.npy", "notes.txt"], "unknown"),
        ([], "unknown"),
    ],
)
def test_zips(tmp_path: Path, members: list[str], expected: str) -> None:
    assert told_by_content(_zip(tmp_path / "file", *members)) == expected


@pytest.mark.parametrize(
    ("header", "length", "expected"),
    [
        ({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, None, "safetensors"),
        ({"__metadata__": {"a": "b"}}, None, "safetensors"),
        ({"x": {"dtype": "F32"}}, None, "unknown"),
        (["x"], None, "unknown"),
        ({"__metadata__": {}}, 10**6, "unknown"),
        ({"__metadata__": {}}, 3, "unknown"),
    ],
)
def test_safetensors(tmp_path: Path, header: object, length: int | None, expected: str) -> None:
    assert told_by_content(_safetensors(tmp_path / "file", header, length)) == expected


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x04", b"[" * 100_000, b"\xff" * 5000])
def test_anything_else_is_unknown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert told_by_content(path) == "unknown"


def test_a_safetensors_header_nested_without_end_is_unknown(tmp_path: Path) -> None:
    text = b"[" * 100_000 + b"]" * 100_000
    path = tmp_path / "file"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    assert told_by_content(path) == "unknown"


def test_a_zip_with_an_endless_directory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(MAX_DIRECTORY // 60_000 + 1):
            archive.writestr(f"{number:060000}.npy", b"")
    assert told_by_content(path) == "unknown"
