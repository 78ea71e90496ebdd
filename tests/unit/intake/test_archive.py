"""What is told from the structure of an archive alone."""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from service.domain.errors import ArtifactRejected
from service.intake import limits
from service.intake.check import check_model
from tests.unit.intake.archives import archive


def check(folder: Path, content: bytes, model_format: str = "torchscript") -> None:
    path = folder / "model"
    path.write_bytes(content)
    check_model(path, model_format)


def made(*members: zipfile.ZipInfo | str, content: bytes = b"x", comment: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.comment = comment
        for member in members:
            written.writestr(member, content)
    return file.getvalue()


def info(name: str, **attributes: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    for attribute, value in attributes.items():
        setattr(member, attribute, value)
    return member


def flagged(bit: int) -> bytes:
    """An archive whose first member has this flag in both places."""
    content = bytearray(archive())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + at] |= bit
    return bytes(content)


def doubled() -> bytes:
    with pytest.warns(UserWarning, match="Duplicate"):
        return made("net/data.pkl", "net/data.pkl")


def overlapping() -> bytes:
    """Two members of the directory share one body: a bomb needs no more (Fifield 2019, A better
    zip bomb)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.writestr("net/a", b"x")
        twin = info("net/b", header_offset=0, file_size=1, compress_size=1, CRC=zlib.crc32(b"x"))
        written.filelist.append(twin)
    return file.getvalue()


def renamed_locally() -> bytes:
    """The header before the member names another file than the directory."""
    content = archive()
    at = content.index(b"net/version")
    return content[:at] + b"net/VERSION" + content[at + len("net/version") :]


def hole() -> bytes:
    """Bytes that belong to no member."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.writestr("net/a", b"x")
        written.fp.write(b"another archive" * 9)  # type: ignore[union-attr]
        written.start_dir = written.fp.tell()  # type: ignore[union-attr]
        written.writestr("net/b", b"x")
    return file.getvalue()


BOMB = {"net/data/0": bytes(20 * limits.MIB)}
STRUCTURES: dict[str, tuple[Callable[[], bytes], str]] = {
    "climbs out": (lambda: made("net/../../etc/passwd"), "leads out"),
    "starts at the root": (lambda: made("/etc/passwd"), "leads out"),
    "a drive": (lambda: made("C:/windows"), "leads out"),
    "an empty part": (lambda: made("net//data.pkl"), "leads out"),
    "a backslash": (lambda: made("net\\..\\data.pkl"), "no member's name"),
    "a line feed": (lambda: made("net/a\nb"), "no member's name"),
    "an escape": (lambda: made("net/\x1b[31m"), "no member's name"),
    "a long name": (lambda: made("net/" + "a" * 2000), "2,004 characters"),
    "a link": (lambda: made(info("net/a", external_attr=stat.S_IFLNK << 16)), "link"),
    "a device": (lambda: made(info("net/a", external_attr=stat.S_IFCHR << 16)), "device"),
    "encrypted": (lambda: flagged(0x1), "encrypted"),
    "another method": (lambda: made(info("net/a", compress_type=zipfile.ZIP_LZMA)), "way"),
    "twice": (doubled, "twice"),
    "twice but for case": (lambda: made("net/data.pkl", "net/DATA.pkl"), "twice"),
    "an empty archive": (made, "empty"),
    "a comment": (lambda: made("net/a", comment=b"PK"), "follows"),
    "something before it": (lambda: b"#!/bin/sh\n" + archive(), "first member"),
    "something after it": (lambda: archive() + b"PK", "follows"),
    "members that overlap": (overlapping, "where"),
    "a hole": (hole, "where"),
    "two names": (renamed_locally, "two ways"),
    "a bomb": (lambda: archive(BOMB, compress=True), "unpacks"),
    "two folders": (lambda: archive({"other/data.pkl": b""}), "2 folders"),
    "an old format": (lambda: archive({"net/model.json": b"{}"}), "2019"),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_dishonest_archive_is_refused(tmp_path: Path, name: str) -> None:
    make, said = STRUCTURES[name]
    with pytest.raises(ArtifactRejected, match=said):
        check(tmp_path, make())


@pytest.mark.parametrize("compress", [False, True])
def test_an_honest_archive_passes(tmp_path: Path, compress: bool) -> None:
    check(tmp_path, archive(compress=compress))


def test_a_folder_is_a_member_too(tmp_path: Path) -> None:
    check(tmp_path, archive({"net/": b"", "net/extra/": b""}))


def test_many_small_bombs_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_INFLATED", 4 * limits.MIB)
    several = {f"net/data/{number}": bytes(limits.MIB) for number in range(5)}
    with pytest.raises(ArtifactRejected, match="unpack to"):
        check(tmp_path, archive(several, compress=True))


@pytest.mark.parametrize("model_format", ["safetensors", "npz", "unknown"])
def test_files_that_are_no_program_are_not_looked_at(tmp_path: Path, model_format: str) -> None:
    check(tmp_path, b"anything", model_format)


def test_a_file_that_is_gone_is_not_a_bad_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        check_model(tmp_path / "gone", "torchscript")


def test_cuts_and_flipped_bytes_are_refused_or_harmless(tmp_path: Path) -> None:
    """Nothing but ArtifactRejected comes out, and a cut never passes."""
    whole, passed = archive(), 0
    for place in range(0, len(whole), 3):
        with pytest.raises(ArtifactRejected):
            check(tmp_path, whole[:place])
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        try:
            check(tmp_path, bytes(flipped))
            passed += 1
        except ArtifactRejected:
            pass
    assert passed < len(whole) / 6


def test_a_check_sum_is_compared(tmp_path: Path) -> None:
    content = archive()
    at = content.index(b"torch.relu")
    with pytest.raises(ArtifactRejected, match="CRC"):
        check(tmp_path, content[:at] + b"torch.celu" + content[at + 10 :])
