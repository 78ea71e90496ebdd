"""TorchScript archives made by hand, right and wrong."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

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
