"""What the client makes of a prescription's parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from graddx import (
    AnalysisUnfinished,
    Client,
    ConnectionFailed,
    InvalidInput,
    NoPrescription,
)
from graddx.cli.apply import Part, chosen, id_of
from tests.unit.client.scripted_server import HANG_UP, Reply, ScriptedServer, problem

FOLDER = "/v1/analyses/a1/prescription"


def test_each_part_has_its_call(server: ScriptedServer, client: Client) -> None:
    spec: dict[str, object] = {"input": {}, "layers": []}
    operations = [{"op": "remove", "path": "/layers/0/init"}]
    server.replies = [Reply(200, spec), Reply(200, operations), Reply(200, b"class \xc3\xa9: ...")]
    assert client.prescription_spec("a1") == spec
    assert client.prescription_patch("a1") == operations
    assert client.prescription_code("a1") == "class é: ..."
    paths = [call.path for call in server.calls]
    assert paths == [f"{FOLDER}/spec", f"{FOLDER}/spec?format=patch", f"{FOLDER}/code"]


def test_weights_are_written_where_they_are_wanted(
    server: ScriptedServer, client: Client, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 5000
    server.replies = [Reply(200, content)]
    path = client.download_state_dict("a1", tmp_path / "net.safetensors")
    assert path.read_bytes() == content
    assert server.calls[0].path == f"{FOLDER}/state_dict"
    assert list(tmp_path.iterdir()) == [path]


def test_a_broken_download_is_repeated_and_leaves_nothing_half(
    server: ScriptedServer, client: Client, tmp_path: Path
) -> None:
    server.replies = [HANG_UP, Reply(200, b"all of it")]
    path = client.download_state_dict("a1", tmp_path / "w")
    assert path.read_bytes() == b"all of it"
    server.replies = [HANG_UP]
    path.write_bytes(b"older")
    with pytest.raises(ConnectionFailed):
        client.download_state_dict("a1", path)
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("w", b"older")]


def test_a_place_that_cannot_be_written(
    server: ScriptedServer, client: Client, tmp_path: Path
) -> None:
    server.replies = [Reply(200, b"weights")]
    with pytest.raises(InvalidInput, match="No such file"):
        client.download_state_dict("a1", tmp_path / "nowhere" / "w")


@pytest.mark.parametrize("code", ["no_prescription", "weights_not_kept", "spec_only"])
def test_nothing_to_take_away(
    server: ScriptedServer, client: Client, tmp_path: Path, code: str
) -> None:
    server.replies = [problem(404, code)]
    with pytest.raises(NoPrescription) as raised:
        client.download_state_dict("a1", tmp_path / "w")
    assert (raised.value.code, list(tmp_path.iterdir())) == (code, [])


def test_too_early(server: ScriptedServer, client: Client) -> None:
    server.replies = [problem(409, "analysis_unfinished")]
    with pytest.raises(AnalysisUnfinished):
        client.prescription_code("a1")


def test_one_part_at_a_time() -> None:
    nothing: dict[Part, bool] = {"spec": False, "patch": False, "code": False, "weights": False}
    assert chosen({}) == "spec"
    assert chosen({**nothing, "code": True}) == "code"
    with pytest.raises(InvalidInput, match="one of --patch and --code"):
        chosen({**nothing, "patch": True, "code": True})


def test_an_address_is_as_good_as_an_id() -> None:
    for text in ("a1", "http://127.0.0.1:8000/v1/analyses/a1", "http://h/v1/analyses/a1/"):
        assert id_of(text) == "a1"
