"""Pickles inside model files: which names they may call."""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from pathlib import Path

import pytest

from service.domain.errors import ArtifactRejected
from service.intake import limits
from service.intake.check import check_model
from tests.unit.intake.archives import EMPTY, MEMBERS, archive, exported

TORCHSCRIPT_PICKLES = [
    "net/data.pkl",
    "net/constants.pkl",
    "net/code/__torch__.py.debug_pkl",
    "net/traced_inputs.pkl",
]


class RunsCode:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/loot",)


HOSTILE = {
    "a call of os.system": (pickle.dumps(RunsCode(), 2), r"it calls 'posix\.system'"),
    "the same, later protocol": (pickle.dumps(RunsCode(), 4), "opcode"),
    "the same, first protocol": (pickle.dumps(RunsCode(), 0), "opcode|it calls"),
    "eval": (b"\x80\x02cbuiltins\neval\n.", r"builtins\.eval"),
    "a class of a library": (b"\x80\x02c__torch__.torch.classes.dist\nStore\n.", "classes"),
    "a made up torch": (b"\x80\x02c__torch__evil\nNet\n.", "__torch__evil"),
    "another helper": (b"\x80\x02ctorch.jit._pickle\nbuild_anything\n.", "build_anything"),
    "an old instance": (b"(ios\nsystem\n.", "INST"),
    "an extension": (b"\x80\x02\x82\x01.", "EXT1"),
    "no end": (b"\x80\x02K\x01", "broken pickle"),
    "no pickle": (b"\xff\xff", "broken pickle"),
    "a long number": (b"I" + b"9" * 10_000 + b"\n.", "broken pickle|INT"),
    "nothing": (b"", "broken pickle"),
}


def refused(folder: Path, content: bytes, model_format: str = "torchscript") -> str:
    path = folder / "model"
    path.write_bytes(content)
    with pytest.raises(ArtifactRejected) as caught:
        check_model(path, model_format)
    return caught.value.detail


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("member", TORCHSCRIPT_PICKLES)
def test_a_pickle_may_call_what_torchscript_is_made_of(
    tmp_path: Path, member: str, name: str
) -> None:
    content, said = HOSTILE[name]
    detail = refused(tmp_path, archive({member: content}))
    assert member in detail
    assert re.search(said, detail)


def torch_saved(content: bytes) -> bytes:
    """As torch.save writes sample inputs."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("archive/data.pkl", content)
    return file.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
def test_an_exported_programs_payload_is_read_as_well(tmp_path: Path, name: str) -> None:
    content, _ = HOSTILE[name]
    inputs = "net/data/sample_inputs/model.pt"
    for payload in (content, torch_saved(content)):
        assert inputs in refused(tmp_path, exported({inputs: payload}), "exported_program")


def test_an_exported_program_brings_no_compiled_code(tmp_path: Path) -> None:
    members = {"net/data/aotinductor/model.so": b"\x7fELF"}
    assert "compiled code" in refused(tmp_path, exported(members), "exported_program")


def test_archives_are_not_nested_deeply(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as made:
        made.writestr("archive/inner.pt", torch_saved(EMPTY))
    members = {"net/data/sample_inputs/model.pt": inner.getvalue()}
    assert "archive in an archive" in refused(tmp_path, exported(members), "exported_program")


def test_an_exported_program_passes(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(exported({"net/data/sample_inputs/model.pt": torch_saved(EMPTY)}))
    check_model(path, "exported_program")


def test_pickles_are_read_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_OPCODES", 1_000)
    long = b"\x80\x02" + b"N" * 2_000 + b"."
    assert "1,000 opcodes" in refused(tmp_path, archive({"net/data.pkl": long}))
    monkeypatch.setattr(limits, "MAX_PICKLES", 100)
    assert "pickles have more than 100" in refused(tmp_path, archive({"net/data.pkl": long}))


def test_code_is_read_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CODE", len(MEMBERS["net/code/__torch__.py"]))
    assert "code has more than" in refused(tmp_path, archive({"net/code/other.py": b"x = 1"}))
