"""Is a file that a child wrote really a safetensors file? Checked without torch.

The format: an 8-byte little-endian length, a JSON header of that length that maps each tensor's
name to its dtype, shape and place, and the data, without holes or overlaps
(https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import math
import struct

import msgspec

_LENGTH = struct.Struct("<Q")
_MOST_HEADER_BYTES = 100_000_000
"""The format's own limit."""
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64, "C64": 64,
}  # fmt: skip
_METADATA = "__metadata__"


class NotSafetensors(Exception):
    """The bytes are not a safetensors file; the message says where they go wrong."""


class _Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


_header: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_tensor: msgspec.json.Decoder[_Tensor] = msgspec.json.Decoder(_Tensor)
_metadata: msgspec.json.Decoder[dict[str, str]] = msgspec.json.Decoder(dict[str, str])


def check_safetensors(content: bytes) -> None:
    """Raises NotSafetensors unless `content` is one whole, consistent safetensors file."""
    tensors, data_bytes = _read_header(content)
    ends = [0]
    for tensor in sorted(tensors, key=lambda tensor: tensor.data_offsets):
        begin, end = tensor.data_offsets
        if begin != ends[-1] or end - begin != _size(tensor):
            raise NotSafetensors("a tensor's place does not fit its shape")
        ends.append(end)
    if ends[-1] != data_bytes:
        raise NotSafetensors(f"{ends[-1]} bytes of tensors in {data_bytes} bytes of data")


def _read_header(content: bytes) -> tuple[list[_Tensor], int]:
    if len(content) < _LENGTH.size:
        raise NotSafetensors("shorter than its length field")
    (length,) = _LENGTH.unpack_from(content)
    data_start = _LENGTH.size + length
    if length > _MOST_HEADER_BYTES or data_start > len(content):
        raise NotSafetensors(f"a header of {length} bytes")
    try:
        entries = _header.decode(memoryview(content)[_LENGTH.size : data_start])
        _metadata.decode(entries.pop(_METADATA, msgspec.Raw(b"{}")))
        tensors = [_tensor.decode(entry) for entry in entries.values()]
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise NotSafetensors(f"the header: {error}") from error
    return tensors, len(content) - data_start


def _size(tensor: _Tensor) -> int:
    bits = _BITS.get(tensor.dtype)
    if bits is None or any(size < 0 for size in tensor.shape):
        raise NotSafetensors("an unknown dtype or a negative size")
    return math.prod(tensor.shape) * bits // 8
