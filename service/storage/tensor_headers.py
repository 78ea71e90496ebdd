"""What a file of tensors holds, read from its headers alone: safetensors and npz.

Nothing of the data is read and nothing is built from it, so a hostile file costs no more than the
few bytes of its headers. Formats: https://github.com/huggingface/safetensors ("Format");
numpy.lib.format ("Format Version 1.0" … "3.0") inside a zip.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from service.domain.errors import ArtifactRejected
from service.domain.tensor_file import TensorHeader
from service.intake.archive import open_zip
from service.storage.formats import MAX_HEADER

MAX_DIMENSIONS = 64
"""Of one tensor; NumPy's own limit."""
MAX_ELEMENTS = 2**63 - 1
"""Numbers in one tensor; also the largest size of a dimension."""
MAX_ARRAYS = 64
"""Members of an npz: a model takes 16 inputs at most."""
MAX_NPY_HEADER = 10_000
"""Bytes; NumPy refuses longer ones too (max_header_size)."""

_SAFETENSORS: dict[str, tuple[str, int]] = {
    "BOOL": ("bool", 1),
    "U8": ("uint8", 1),
    "I8": ("int8", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "U16": ("uint16", 2),
    "I16": ("int16", 2),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "U32": ("uint32", 4),
    "I32": ("int32", 4),
    "F32": ("float32", 4),
    "U64": ("uint64", 8),
    "I64": ("int64", 8),
    "F64": ("float64", 8),
    "C64": ("complex64", 8),
}
"""torch's name and bytes of a number, by the format's own name."""
_NPY = {
    "b1": "bool",
    "u1": "uint8",
    "i1": "int8",
    "u2": "uint16",
    "i2": "int16",
    "f2": "float16",
    "u4": "uint32",
    "i4": "int32",
    "f4": "float32",
    "u8": "uint64",
    "i8": "int64",
    "f8": "float64",
    "c8": "complex64",
    "c16": "complex128",
}
"""torch's name, by kind and bytes."""
_AS_JSON = str.maketrans("'()", '"[]')


class _Broken(Exception):
    """Not what the format says; the message says where."""


def read_headers(path: Path, file_format: str) -> dict[str, TensorHeader]:
    """Every tensor of a safetensors or npz file by name.

    Raises ArtifactRejected unless headers, sizes and places agree; FileNotFoundError.
    """
    read = {"safetensors": _read_safetensors, "npz": _read_npz}[file_format]
    try:
        return read(path)
    except FileNotFoundError:
        raise
    except _Broken as error:
        raise ArtifactRejected(f"this is no whole {file_format} file: {error}") from error
    except Exception as error:
        # zipfile and zlib raise a dozen kinds for what such a file can hold.
        raise ArtifactRejected(f"this is no whole {file_format} file") from error


def _read_safetensors(path: Path) -> dict[str, TensorHeader]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER:
            raise _Broken(f"its header has {length} bytes, more than {MAX_HEADER}")
        entries = _entries(file.read(length))
    tensors = {name: _safetensor(entry) for name, entry in entries.items()}
    end = 0
    for begin, stop, size in sorted(place for _, place in tensors.values()):
        if begin != end or stop - begin != size:
            raise _Broken("a tensor's place does not fit its shape, or that of another")
        end = stop
    if end != path.stat().st_size - 8 - length:
        raise _Broken(f"its tensors should have {end} bytes together")
    return {name: header for name, (header, _) in tensors.items()}


def _entries(header: bytes) -> dict[str, Any]:
    try:
        entries = json.loads(header.decode("utf-8"), object_pairs_hook=_unique)
        "".join(entries).encode("utf-8")  # halves of surrogate pairs are no names
    except (ValueError, TypeError, RecursionError) as error:
        raise _Broken("its header is not JSON as the format has it") from error
    if not isinstance(entries, dict):
        raise _Broken("its header is no JSON object")
    entries.pop("__metadata__", None)
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _safetensor(entry: Any) -> tuple[TensorHeader, tuple[int, int, int]]:
    """The header, and begin, end and expected size of its data in bytes."""
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [begin, end], **more}:
            if more or dtype not in _SAFETENSORS:
                raise _Broken(f"a tensor of an unknown kind ({dtype[:20]})")
            name, size = _SAFETENSORS[dtype]
            header = TensorHeader(name, _sizes(shape))
            if type(begin) is not int or type(end) is not int:
                raise _Broken("a tensor's place is not told in bytes")
            return header, (begin, end, math.prod(header.shape) * size)
    raise _Broken("a tensor without dtype, shape and data_offsets")


def _read_npz(path: Path) -> dict[str, TensorHeader]:
    with open_zip(path) as archive:
        members = archive.infolist()
        if len(members) > MAX_ARRAYS:
            raise _Broken(f"it has {len(members)} arrays, more than {MAX_ARRAYS}")
        arrays = [(one.filename.removesuffix(".npy"), _member(archive, one)) for one in members]
    return _unique_arrays(arrays)


def _unique_arrays(arrays: list[tuple[str, TensorHeader]]) -> dict[str, TensorHeader]:
    found = dict(arrays)
    if len(found) != len(arrays):
        raise _Broken("two arrays have the same name")
    return found


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> TensorHeader:
    name = member.filename[:40]
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _Broken(f"{name} is compressed in a way that NumPy does not write")
    with archive.open(member) as file:
        header, size = _npy(file, name)
    if size != member.file_size:
        raise _Broken(f"{name} has {member.file_size} bytes, its shape wants {size}")
    return header


def _npy(file: IO[bytes], name: str) -> tuple[TensorHeader, int]:
    """The header of an .npy, and the bytes that the whole of it has."""
    begin = file.read(8)
    width = {1: 2, 2: 4, 3: 4}.get(begin[6]) if len(begin) == 8 else None
    if begin[:6] != b"\x93NUMPY" or width is None:
        raise _Broken(f"{name} is not NumPy's")
    length = int.from_bytes(file.read(width), "little")
    if length > MAX_NPY_HEADER:
        raise _Broken(f"the header of {name} has {length} bytes, more than {MAX_NPY_HEADER}")
    header, item = _npy_header(file.read(length), name)
    return header, 8 + width + length + math.prod(header.shape) * item


def _npy_header(text: bytes, name: str) -> tuple[TensorHeader, int]:
    """{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }: a literal of Python's, read as
    JSON, so that no parser of a whole language sees it. With the bytes of one number."""
    literal = text.decode("ascii").translate(_AS_JSON)
    for python, as_json in (
        ("False", "false"),
        ("True", "true"),
        (" ", ""),
        (",]", "]"),
        (",}", "}"),
    ):
        literal = literal.replace(python, as_json)
    match json.loads(literal):
        case {"descr": str(descr), "fortran_order": bool(), "shape": list(shape), **more} if (
            not more
        ):
            order, kind = descr[:1], descr[1:]
            if kind not in _NPY or order not in ("<|" if kind[1:] == "1" else "<"):
                raise _Broken(f"{name} holds {descr[:20]!r}, not plain little-endian numbers")
            return TensorHeader(_NPY[kind], _sizes(shape)), int(kind[1:])
        case {"descr": list()}:
            raise _Broken(f"{name} holds records, not plain numbers")
    raise _Broken(f"the header of {name} has not descr, fortran_order and shape")


def _sizes(values: Iterable[Any]) -> tuple[int, ...]:
    sizes = tuple(values)
    whole = all(type(size) is int and 0 <= size <= MAX_ELEMENTS for size in sizes)
    if not whole or len(sizes) > MAX_DIMENSIONS or math.prod(sizes) > MAX_ELEMENTS:
        raise _Broken("a size that no tensor has")
    return sizes
