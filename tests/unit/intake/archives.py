"""TorchScript archives and exported programs made by hand, right and wrong."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from service.domain.errors import ArtifactRejected
from service.intake.check import check_model

CODE = b"def forward(self, x: Tensor) -> Tensor:\n  return torch.relu(x)\n"
EMPTY = b"\x80\x02)."
MEMBERS: dict[str, bytes] = {
    "net/data.pkl": b"\x80\x02c__torch__\nNet\nq\x00)\x81}(X\x01\x00\x00\x00aK\x01ub.",
    "net/code/__torch__.py": CODE,
    "net/code/__torch__.py.debug_pkl": EMPTY,
    "net/constants.pkl": EMPTY,
    "net/data/0": b"weights",
    "net/version": b"3\n",
}


def archive(changed: Mapping[str, bytes] | None = None, *, compress: bool = False) -> bytes:
    """MEMBERS, with some of them changed or added."""
    file = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", method) as made:
        for name, content in {**MEMBERS, **(changed or {})}.items():
            made.writestr(name, content)
    return file.getvalue()


def with_code(text: str) -> bytes:
    return archive({"net/code/__torch__.py": text.encode()})


def program() -> dict[str, Any]:
    """One input of (4, 3), one operation."""
    tensor = {"as_tensor": {"name": "x"}}
    node = {
        "target": "torch.ops.aten.relu.default",
        "inputs": [{"name": "self", "arg": tensor}],
        "outputs": [{"as_tensor": {"name": "y"}}],
    }
    sizes = {"dtype": 7, "sizes": [{"as_int": 4}, {"as_int": 3}]}
    return {
        "range_constraints": {},
        "graph_module": {
            "graph": {"nodes": [node], "tensor_values": {"x": sizes, "y": sizes}},
            "signature": {"input_specs": [{"user_input": {"arg": tensor}}]},
        },
    }


def exported(changed: Mapping[str, bytes]) -> bytes:
    """An exported program, with some members changed or added."""
    members = {
        "net/archive_format": b"pt2",
        "net/models/model.json": json.dumps(program()).encode(),
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, content in {**members, **changed}.items():
            made.writestr(name, content)
    return file.getvalue()


def refused_program(
    folder: Path, said: dict[str, Any] | bytes, others: Mapping[str, bytes] | None = None
) -> str:
    """What the filter says of an archive with this program."""
    content = said if isinstance(said, bytes) else json.dumps(said).encode()
    path = folder / "model"
    path.write_bytes(exported({"net/models/model.json": content, **(others or {})}))
    with pytest.raises(ArtifactRejected) as caught:
        check_model(path, "exported_program")
    return caught.value.detail
