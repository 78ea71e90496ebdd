"""Weights as a safetensors file, written as they come: header first, then raw bytes.

Format: 8 bytes little-endian header length, JSON {name: {dtype, shape, data_offsets}}, data.
Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

import torch
from torch import Tensor

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write(file: IO[bytes], state: Mapping[str, Tensor]) -> int:
    """Write tensors by name, row-major; returns the file's size in bytes."""
    header: dict[str, Any] = {}
    offset = 0
    for name, tensor in state.items():
        length = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + length],
        }
        offset += length
    text = json.dumps(header, separators=(",", ":")).encode()
    # The data begins on a multiple of eight bytes, as the format's own writer has it.
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for tensor in state.values():
        flat = tensor.detach().contiguous().reshape(-1)
        if flat.numel():
            file.write(flat.view(torch.uint8).numpy().data)
    file.flush()
    return 8 + len(text) + offset
