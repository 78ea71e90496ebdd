"""Files that are no model, told apart for the answer."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest

from service.intake.unknown import describe
from tests.unit.intake.archives import archive


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, content in members.items():
            made.writestr(name, content)
    return file.getvalue()


def torch_saved(content: object) -> bytes:
    return zipped({"net/data.pkl": pickle.dumps(content, 2), "net/data/0": b"weights"})


FILES = {
    "nothing": (b"", "is empty"),
    "a state dict": (torch_saved(OrderedDict(weight=1)), "a state dict or checkpoint"),
    "a module": (torch_saved(Path("x")), "pickled object of class 'pathlib.PosixPath'"),
    "an old torch.save": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M", "before version"),
    "a pickle": (pickle.dumps({}), "perhaps a pickle"),
    "half of a model": (archive()[:300], "cut off"),
    "a Keras model": (
        zipped({"config.json": b"{}", "model.weights.h5": b""}),
        "of which model.to_json() is",
    ),
    "HDF5": (b"\x89HDF\r\n\x1a\n", "a HDF5 file, perhaps a Keras model, of which model.to_json()"),
    "a program": (b"\x7fELF\x02\x01", "a program"),
    "a script": (b"import os\n", "text"),
    "noise": (bytes(range(200, 256)), "of no kind"),
    "an archive": (zipped({"notes.txt": b""}), "without a model"),
    "an archive with a broken pickle": (zipped({"net/data.pkl": b"\xff"}), "state dict"),
}


@pytest.mark.parametrize("name", FILES)
def test_the_answer_says_what_it_seems_to_be_and_what_to_send(tmp_path: Path, name: str) -> None:
    content, said = FILES[name]
    path = tmp_path / "file"
    path.write_bytes(content)
    described = describe(path)
    assert said in described
    assert "torch.jit.save(torch.jit.trace(model, example), path)" in described
