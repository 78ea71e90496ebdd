"""What a file that is no model may be, so that the answer says how to make one of it."""

from __future__ import annotations

import zipfile
from pathlib import Path

from service.intake import limits, pickles
from service.intake.archive import open_zip, read_member, shown
from service.intake.refusal import Refused

_EXPORT = (
    "save with torch.export.save(torch.export.export(model, (example,)), path) or "
    "torch.jit.save(torch.jit.trace(model, example), path)"
)
_ACCEPTED = (
    "TorchScript (torch.jit.save), an exported program (torch.export.save), safetensors or npz"
)
_KERAS = 'of which model.to_json() is sent, as a model of kind "keras"'
_BEGINNINGS = {
    b"\x89HDF": f"a HDF5 file, perhaps a Keras model, {_KERAS}",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "compressed by gzip; send what is inside",
    b"\x08": "perhaps an ONNX model",
    b"\x7fELF": "a program",
    b"\x80": "perhaps a pickle, which would run code when it is read",
}
"""What other files begin with."""
_OLD_TORCH_SAVE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The number that torch.save wrote first before version 1.6."""


def describe(path: Path) -> str:
    """One sentence on what the file is not, what it seems to be and what to send instead."""
    return f"the file is {_seems(path)}; {_ACCEPTED} is wanted; {_EXPORT}"


def _seems(path: Path) -> str:
    with path.open("rb") as file:
        begin = file.read(64)
    if not begin:
        return "empty"
    if begin.startswith(_OLD_TORCH_SAVE):
        return f"what torch.save wrote before version 1.6: a pickle, {_NO_PROGRAM}"
    if begin.startswith(b"PK\x03\x04"):
        return _zip(path)
    for beginning, what in _BEGINNINGS.items():
        if begin.startswith(beginning):
            return what
    return "text" if begin.isascii() and begin.strip(b"\0") == begin else "of no kind known here"


_NO_PROGRAM = "which has the weights but not the network, or only by names of Python classes"


def _zip(path: Path) -> str:
    try:
        with open_zip(path) as archive:
            return _archive(archive)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return "a zip archive that was cut off or damaged"


def _archive(archive: zipfile.ZipFile) -> str:
    for member in archive.infolist():
        if member.filename.partition("/")[2] == "data.pkl" or member.filename == "data.pkl":
            return _torch_save(_names(archive, member))
    if any(name.endswith((".keras", "config.json")) for name in archive.namelist()):
        return f"a zip archive, perhaps a Keras model, {_KERAS}"
    return "a zip archive without a model"


def _torch_save(names: list[str]) -> str:
    foreign = [name for name in names if name not in pickles.EXPORTED]
    if not foreign:
        return f"a state dict or checkpoint that torch.save wrote, {_NO_PROGRAM}"
    first = shown(foreign[0].replace(" ", "."))
    return f"a pickled object of class {first} that torch.save wrote, and pickles run code"


def _names(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> list[str]:
    """As far as they can be read."""
    names: list[str] = []
    try:
        content = read_member(archive, member, limits.MAX_PICKLES)
        for name in pickles.names_in(content, pickles.Budget()):
            names.append(name)
            if name not in pickles.EXPORTED:
                break
    except Refused:
        pass
    return names
