"""Headers of files of tensors against the libraries that define the formats, and hostile ones."""

from __future__ import annotations

import io
import json
import random
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from service.domain.errors import ArtifactRejected
from service.domain.tensor_file import TensorHeader
from service.storage.tensor_headers import MAX_ARRAYS, read_headers

shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
dtypes = st.sampled_from(["float16", "float32", "float64", "int8", "int32", "int64", "bool"])
arrays = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9.]{0,8}", fullmatch=True), st.tuples(shapes, dtypes), max_size=5
)
FAST = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SECONDS = 2.0
"""No file may take longer to refuse, on a busy machine."""


def npz(compressed: bool = False, **given: Any) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **given)
    return file.getvalue()


def written(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


@FAST
@given(tensors=arrays)
def test_what_safetensors_writes_is_read(
    tmp_path: Path, tensors: dict[str, tuple[tuple[int, ...], str]]
) -> None:
    made = {name: np.zeros(shape, dtype) for name, (shape, dtype) in tensors.items()}
    path = written(tmp_path, save(made, {"format": "np"}))
    expected = {name: TensorHeader(dtype, shape) for name, (shape, dtype) in tensors.items()}
    assert read_headers(path, "safetensors") == expected


@FAST
@given(tensors=arrays, compressed=st.booleans(), fortran=st.booleans())
def test_what_numpy_writes_is_read(
    tmp_path: Path,
    tensors: dict[str, tuple[tuple[int, ...], str]],
    compressed: bool,
    fortran: bool,
) -> None:
    order: Any = "F" if fortran else "C"
    made = {name: np.zeros(shape, dtype, order=order) for name, (shape, dtype) in tensors.items()}
    path = written(tmp_path, npz(compressed, **made))
    expected = {name: TensorHeader(dtype, shape) for name, (shape, dtype) in tensors.items()}
    assert read_headers(path, "npz") == expected


def safetensors(header: object, data: int = 0) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


def tensor(shape: object, begin: object, end: object, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 2**64 - 1),
        struct.pack("<Q", 100) + b"{}",
        safetensors([]),
        safetensors(b"[" * 1_000_000),
        safetensors(b'{"a":' * 500_000 + b"1" + b"}" * 500_000),
        safetensors(b'{"\\ud800": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}', 4),
        safetensors(b'{"a": {"dtype": "F32", "shape": [1' + b"0" * 5000 + b"]}}"),
        safetensors({"w": tensor([2], 0, 4)}, 4),
        safetensors({"w": tensor([1], 4, 8)}, 8),
        safetensors({"w": tensor([1], -4, 0)}),
        safetensors({"w": tensor([1], 0, True)}, 1),
        safetensors({"w": tensor([1], 0, "4")}, 4),
        safetensors({"w": tensor([-1, -1], 0, 4)}, 4),
        safetensors({"w": tensor(["1"], 0, 4)}, 4),
        safetensors({"w": tensor([1], 0, 4, "F33")}, 4),
        safetensors({"w": tensor([1] * 100_000, 0, 4)}, 4),
        safetensors({"w": tensor([2**62] * 60, 0, 4)}, 4),
        safetensors({"w": tensor([1], 0, 4) | {"code": "x"}}, 4),
        safetensors({"w": [1]}),
        safetensors({"w": tensor([1], 0, 4)}, 5),
        safetensors({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, 4),
        safetensors({"a": tensor([1], 0, 4), "b": tensor([1], 8, 12)}, 12),
        safetensors(b'{"a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}, "a": 1}'),
    ],
)
def test_what_is_no_whole_safetensors_file_is_refused_at_once(
    tmp_path: Path, content: bytes
) -> None:
    refused_at_once(written(tmp_path, content), "safetensors")


def npy(header: bytes, data: int = 0, version: int = 1) -> bytes:
    width = {1: "<H", 2: "<I", 3: "<I"}.get(version, "<H")
    return (
        b"\x93NUMPY" + bytes([version, 0]) + struct.pack(width, len(header)) + header + bytes(data)
    )


def zipped(*members: tuple[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


WHOLE = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n"


def test_versions_two_and_three_are_read(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        path = written(tmp_path, zipped(("x.npy", npy(WHOLE, 8, version))))
        assert read_headers(path, "npz") == {"x": TensorHeader("float32", (2,))}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x05\x06" + b"\xff" * 18,
        zipped(("x.npy", b"")),
        zipped(("x.npy", b"\x93NUMPY")),
        zipped(("x.npy", npy(WHOLE, 7))),
        zipped(("x.npy", npy(WHOLE, 9))),
        zipped(("x.npy", npy(WHOLE, 8, version=9))),
        zipped(("x.npy", npy(WHOLE, 8)), how=zipfile.ZIP_LZMA),
        zipped(("x.npy", npy(WHOLE, 8)), ("x", npy(WHOLE, 8))),
        zipped(*((f"x{n}.npy", npy(WHOLE, 8)) for n in range(MAX_ARRAYS + 1))),
        zipped(("x.npy", npy(WHOLE.replace(b"<f4", b">f4"), 8))),
        zipped(("x.npy", npy(WHOLE.replace(b"<f4", b"|O"), 8))),
        zipped(("x.npy", npy(WHOLE.replace(b"'<f4'", b"[('a', '<f4')]"), 8))),
        zipped(("x.npy", npy(WHOLE.replace(b"(2,)", b"(-2,)"), 8))),
        zipped(("x.npy", npy(WHOLE.replace(b"(2,)", b"(2**9,)"), 8))),
        zipped(("x.npy", npy(WHOLE.replace(b"(2,)", b"2"), 8))),
        zipped(("x.npy", npy(WHOLE.replace(b"(2,)", b"(" * 9000), 8))),
        zipped(("x.npy", npy(WHOLE.replace(b"(2,)", b"-" * 9000 + b"1"), 8))),
        zipped(("x.npy", npy(WHOLE.replace(b"(2,)", b"(" + b"1," * 4000 + b")"), 8))),
        zipped(("x.npy", npy(WHOLE + b" " * 20_000, 8))),
        zipped(("x.npy", npy(b"{}", 8))),
        zipped(("x.npy", npy(b"\xff\xfe", 8))),
        zipped(("x.npy", npy(b"__import__('os').system('true')", 8))),
        npz(x=np.array([object()])),
        npz(x=np.array(["text"])),
        npz(x=np.zeros(2, "datetime64[s]")),
    ],
)
def test_what_is_no_whole_npz_of_numbers_is_refused_at_once(tmp_path: Path, content: bytes) -> None:
    refused_at_once(written(tmp_path, content), "npz")


def test_a_member_that_unpacks_without_end_is_not_unpacked(tmp_path: Path) -> None:
    header = WHOLE.replace(b"(2,)", b"(500000000,)")
    bomb = zipped(("x.npy", npy(header, 200_000_000)), how=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1_000_000
    refused_at_once(written(tmp_path, bomb), "npz")


@pytest.mark.parametrize("kind", ["safetensors", "npz", "packed"])
def test_cut_and_mutated_files_are_refused_or_read_but_never_crash(
    tmp_path: Path, kind: str
) -> None:
    made: dict[str, Any] = {"x": np.ones((2, 3), np.float32), "y": np.arange(2)}
    whole = save(made) if kind == "safetensors" else npz(kind == "packed", **made)
    file_format = "safetensors" if kind == "safetensors" else "npz"
    chance = random.Random(0)
    for cut in range(len(whole)):
        with pytest.raises(ArtifactRejected):
            read_headers(written(tmp_path, whole[:cut]), file_format)
    for _ in range(500):
        mutated = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            mutated[chance.randrange(len(mutated))] = chance.randrange(256)
        try:
            read_headers(written(tmp_path, bytes(mutated)), file_format)
        except ArtifactRejected as error:
            json.dumps(error.detail).encode()


def test_a_file_that_is_gone_says_so(tmp_path: Path) -> None:
    for file_format in ("safetensors", "npz"):
        with pytest.raises(FileNotFoundError):
            read_headers(tmp_path / "nothing", file_format)


def refused_at_once(path: Path, file_format: str) -> None:
    began = time.monotonic()
    with pytest.raises(ArtifactRejected) as caught:
        read_headers(path, file_format)
    assert time.monotonic() - began < SECONDS
    caught.value.detail.encode()
    assert len(caught.value.detail) < 300
