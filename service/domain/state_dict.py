"""The names in a safetensors file, read and changed without touching the tensors.

Format: 8 bytes little-endian header length, JSON {name: {dtype, shape, data_offsets}}, data.
Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

LENGTH_BYTES = 8
METADATA = "__metadata__"
"""The one key of a header that is no tensor."""


def tensor_names(content: bytes) -> frozenset[str]:
    """Every key of the state dict. `content` is a valid file."""
    return frozenset(_header(content)) - {METADATA}


def renamed(content: bytes, modules: Mapping[str, str]) -> bytes:
    """The same tensors, the longest known module path in front of each name exchanged:
    {"body.0": "first"} makes body.0.weight first.weight. `content` is a valid file."""
    header = {_renamed(name, modules): entry for name, entry in _header(content).items()}
    text = json.dumps(header, separators=(",", ":")).encode()
    # The data begins on a multiple of eight bytes, as the format's own writer has it.
    text += b" " * (-len(text) % 8)
    data = memoryview(content)[LENGTH_BYTES + _length(content) :]
    return b"".join((len(text).to_bytes(LENGTH_BYTES, "little"), text, data))


def _renamed(name: str, modules: Mapping[str, str]) -> str:
    module, dot, rest = name.rpartition(".")
    while dot:
        if module in modules:
            return f"{modules[module]}.{rest}"
        module, dot, part = module.rpartition(".")
        rest = f"{part}.{rest}"
    return name


def _length(content: bytes) -> int:
    return int.from_bytes(content[:LENGTH_BYTES], "little")


def _header(content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(content[LENGTH_BYTES : LENGTH_BYTES + _length(content)])
    return found
