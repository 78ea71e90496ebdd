"""The check that needs no torch, against the library that defines the format."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from service.sandbox.safetensors_header import NotSafetensors, check_safetensors

shapes = st.lists(st.integers(0, 4), max_size=3)
dtypes = st.sampled_from(["float32", "float64", "float16", "int64", "uint8", "bool"])


@given(
    st.dictionaries(st.text(min_size=1, max_size=8), st.tuples(shapes, dtypes), max_size=5),
    st.booleans(),
)
def test_what_the_library_writes_is_accepted(
    tensors: dict[str, tuple[list[int], str]], with_metadata: bool
) -> None:
    tensors.pop("__metadata__", None)
    arrays = {name: np.zeros(shape, dtype) for name, (shape, dtype) in tensors.items()}
    check_safetensors(save(arrays, {"format": "pt"} if with_metadata else None))


def file(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(shape: object, begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 2**63),
        struct.pack("<Q", 100),
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 1) + b"{",
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        file({}, b"data nobody owns"),
        file({"w": tensor([2], 0, 4)}, bytes(4)),
        file({"w": tensor([1], 0, 8)}, bytes(8)),
        file({"w": tensor([1], 4, 8)}, bytes(8)),
        file({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, bytes(4)),
        file({"a": tensor([1], 0, 4), "b": tensor([1], 8, 12)}, bytes(12)),
        file({"w": tensor([-1, -1], 0, 4)}, bytes(4)),
        file({"w": tensor([1], -4, 0)}, b""),
        file({"w": tensor(["1"], 0, 4)}, bytes(4)),
        file({"w": tensor([1], 0, 4, "F33")}, bytes(4)),
        file({"w": {"dtype": "F32", "shape": [1]}}, bytes(4)),
        file({"w": tensor([1], 0, 4) | {"code": "x"}}, bytes(4)),
        file({"__metadata__": {"n": 3}}),
        file({"w": tensor([1], 0, 4)}, bytes(5)),
    ],
)
def test_what_is_no_whole_file_is_refused(content: bytes) -> None:
    with pytest.raises(NotSafetensors):
        check_safetensors(content)


@given(st.binary(max_size=64))
def test_no_bytes_raise_anything_else(content: bytes) -> None:
    try:
        check_safetensors(content)
    except NotSafetensors:
        return
    assert content[8:].startswith(b"{")
