"""The story of the filter: structure, members, code or graph, pickles. The first fault ends it."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

from service.domain.errors import ArtifactRejected
from service.intake import limits, pickles
from service.intake.archive import check_structure, open_zip, read_member, shown
from service.intake.code import CodeFile, check_code
from service.intake.program import check_program
from service.intake.refusal import Refused

_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError)
"""What zipfile and zlib raise for what such a file can hold."""


def check_model(path: Path, model_format: str) -> None:
    """Raises ArtifactRejected, naming member and operator, when a model file (torchscript or
    exported_program) is not what such a file is; other formats are not programs and pass.
    Raises FileNotFoundError."""
    check = _CHECKS.get(model_format)
    if check is None:
        return
    try:
        with open_zip(path) as archive:
            check_structure(archive)
            check(archive)
    except FileNotFoundError:
        raise
    except Refused as refused:
        raise ArtifactRejected(f"the file was not loaded: {refused}") from refused
    except _BROKEN as error:
        raise ArtifactRejected(f"the file is broken: {str(error)[:200]}") from error


def _torchscript(archive: zipfile.ZipFile) -> None:
    _check_one_folder(archive)
    _check_members(archive)
    check_code(_code(archive))
    _check_pickles(archive, pickles.TORCHSCRIPT, pickles.Budget())


def _exported_program(archive: zipfile.ZipFile) -> None:
    for member in archive.infolist():
        if member.filename.endswith((".so", ".cubin", ".cpp", ".o")):
            raise Refused(f"{shown(member.filename)} is compiled code")
    check_program(archive)
    _check_pickles(archive, pickles.EXPORTED, pickles.Budget())


def _check_one_folder(archive: zipfile.ZipFile) -> None:
    folders = {name.partition("/")[0] for name in archive.namelist()}
    if len(folders) > 1:
        raise Refused(f"it has {len(folders)} folders at the top, not one")


def _check_members(archive: zipfile.ZipFile) -> None:
    for member in archive.infolist():
        inside = member.filename.partition("/")[2]
        if inside == "model.json":
            # torch.jit.load then takes another way, older than the checks here.
            raise Refused("it is in TorchScript's format of before 2019")


def _code(archive: zipfile.ZipFile) -> Iterator[CodeFile]:
    left = limits.MAX_CODE
    for member in archive.infolist():
        if _is_code(member.filename):
            left -= member.file_size
            if left < 0:
                raise Refused(f"its code has more than {limits.MAX_CODE:,} bytes")
            text = read_member(archive, member, limits.MAX_CODE)
            yield CodeFile(shown(member.filename), text.decode("latin-1"))


def _is_code(name: str) -> bool:
    return name.partition("/")[2].startswith("code/") and name.endswith(".py")


def _check_pickles(
    archive: zipfile.ZipFile, known: frozenset[str], budget: pickles.Budget, nested: int = 0
) -> None:
    """Every pickle, and every archive within (what torch.save writes is one)."""
    left = limits.MAX_PICKLES
    for member in archive.infolist():
        name = shown(member.filename)
        kind = _kind(archive, member)
        if kind == "data":
            continue
        left -= member.file_size
        if left < 0:
            raise Refused(f"its pickles have more than {limits.MAX_PICKLES:,} bytes")
        content = read_member(archive, member, limits.MAX_PICKLES)
        if kind == "pickle":
            _check_pickle(name, content, known, budget)
        elif nested:
            raise Refused(f"{name} is an archive in an archive in an archive")
        else:
            _check_nested(name, content, known, budget)


def _kind(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str:
    """pickle, archive or data: by name, or by how it begins where Python would unpickle it."""
    if member.filename.endswith(("pkl", ".pickle")):
        return "pickle"
    if not member.filename.endswith((".pt", ".pth")):
        return "data"
    with archive.open(member) as file:
        begin = file.read(4)
    return "archive" if begin == b"PK\x03\x04" else "pickle"


def _check_pickle(name: str, content: bytes, known: frozenset[str], budget: pickles.Budget) -> None:
    try:
        for global_name in pickles.names_in(content, budget):
            module = global_name.partition(" ")[0]
            own = (module + ".").startswith("__torch__.")
            library = (module + ".").startswith("__torch__.torch.classes.")
            if library or not (own or global_name in known):
                raise Refused(f"it calls {shown(global_name.replace(' ', '.'))}")
    except Refused as refused:
        raise Refused(f"{name}: {refused}") from refused


def _check_nested(name: str, content: bytes, known: frozenset[str], budget: pickles.Budget) -> None:
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            check_structure(archive)
            _check_pickles(archive, known, budget, nested=1)
    except Refused as refused:
        raise Refused(f"{name}: {refused}") from refused


_CHECKS: dict[str, Callable[[zipfile.ZipFile], None]] = {
    "torchscript": _torchscript,
    "exported_program": _exported_program,
}
