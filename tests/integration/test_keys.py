"""The operator's side: keys made, listed and revoked; a server that strangers reach needs one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest

from api.__main__ import main
from graddx import Client, Unauthorized
from service import bootstrap
from service.bootstrap import UtcClock, sweep_once
from service.config import Settings
from service.domain.api_keys import LOCAL, Scope, mint
from service.domain.errors import ArtifactNotFound
from service.storage.artifact_store import FileArtifacts
from service.storage.session import Database
from tests.integration.front_door import SPEC, FrontDoor, digest, form, torchscript

ROOT = Path(__file__).parents[2]
START_SECONDS = 30


@pytest.fixture
def environment(sqlite_schema: Path, tmp_path: Path) -> dict[str, str]:
    """Of a server with an empty database and no workers."""
    (tmp_path / "data").mkdir()
    shutil.copy(sqlite_schema, tmp_path / "data" / "graddx.sqlite3")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GRADDX_")}
    ours = {"DATA_DIR": str(tmp_path / "data"), "PORT": "0", "WORKERS": "0"}
    return {**clean, **{f"GRADDX_{name}": value for name, value in ours.items()}}


@dataclass(frozen=True)
class Ran:
    """What a command of the operator's came to."""

    code: int
    out: str
    told: str


class Operator:
    """Runs `python -m api …`, in this process: starting Python takes a second each time."""

    def __init__(
        self,
        environment: dict[str, str],
        capsys: pytest.CaptureFixture[str],
        patch: pytest.MonkeyPatch,
    ) -> None:
        self.environment = environment
        self._capsys = capsys
        self._patch = patch

    def __call__(self, *words: str) -> Ran:
        with self._patch.context() as patched:
            for name, value in self.environment.items():
                patched.setenv(name, value)
            patched.setattr(sys, "argv", ["api", *words])
            try:
                main()
                code: object = 0
            except SystemExit as ended:
                code = ended.code
        out, told = self._capsys.readouterr()
        # Python's own way with a message instead of a code.
        return Ran(code, out, told) if isinstance(code, int) else Ran(1, out, f"{told}{code}\n")


@pytest.fixture
def api(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Operator:
    monkeypatch.chdir(environment["GRADDX_DATA_DIR"])  # no .env of ours
    monkeypatch.setattr("api.__main__.logs.to_stderr", lambda *_: None)
    return Operator(environment, capsys, monkeypatch)


@contextmanager
def served(environment: dict[str, str], folder: Path) -> Iterator[str]:
    """A server's address, from when it answers."""
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "api"], cwd=ROOT, env=environment, stdout=out, stderr=out
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"graddx is at http://[^/]+:(\d+)/docs", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{found[1]}"
    finally:
        process.terminate()
        process.wait(30)


def test_keys_are_made_listed_revoked_and_forgotten(api: Operator) -> None:
    made = api("keys", "create", "--name", "CI", "--days", "30")
    text = made.out.strip()
    assert re.fullmatch(r"gdx_[0-9a-f]{12}_[0-9a-f]{64}", text), made.told
    key_id, secret = text.split("_")[1:]
    api("keys", "create", "--name", "prometheus", "--scope", "metrics")
    listed = api("keys", "list").out
    assert secret not in listed
    header, first, second = listed.splitlines()
    assert header.split() == ["ID", "NAME", "OWNER", "SCOPES", "CREATED", "EXPIRES", "STATE"]
    assert first.split()[:4] == [key_id, "CI", "ci", "read,write"]
    assert first.split()[-1] == "active"
    assert second.split()[1:4] == ["prometheus", "prometheus", "metrics"]
    early = api("keys", "forget", key_id)
    assert (early.code, early.told.strip()) == (
        1, f"no revoked key {key_id}; revoke it first",
    )  # fmt: skip
    assert api("keys", "revoke", key_id).code == 0
    assert "revoked" in api("keys", "list").out.splitlines()[1]
    assert api("keys", "forget", key_id).code == 0
    assert key_id not in api("keys", "list").out


@pytest.mark.parametrize(
    "words",
    [
        ["--name", ""],
        ["--name", "x" * 65],
        ["--name", "a b"],
        ["--name", "a", "--owner", "../a"],
        ["--name", "a", "--scope", "admin"],
        ["--name", "a", "--days", "0"],
        [],
    ],
)
def test_what_makes_no_key_is_refused(api: Operator, words: list[str]) -> None:
    ran = api("keys", "create", *words)
    assert ran.code != 0
    assert ran.out == ""
    assert "Traceback" not in ran.told
    assert api("keys", "list").out.count("\n") == 1


def test_strangers_are_not_served_without_a_key(
    api: Operator, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["GRADDX_HOST"] = "0.0.0.0"
    refused = api()
    assert refused.code == 78
    assert "python -m api keys create" in refused.told
    assert "Traceback" not in refused.told
    key = api("keys", "create", "--name", "ci").out.strip()
    api("keys", "revoke", key.split("_")[1])
    assert api().code == 78
    key = api("keys", "create", "--name", "ci").out.strip()
    with served(environment, tmp_path) as address:
        with Client(address) as nobody, pytest.raises(Unauthorized):
            nobody.catalog()
        with Client(address, key) as client:
            assert client.submit(SPEC).status == "queued"
        url = f"{address}/v1/analyses?api_key={key}"
        assert httpx2.get(url).status_code == 401
        assert httpx2.get(url, headers={"Authorization": f"Bearer {key}"}).status_code == 422
        # Revoked while it runs: at once.
        api("keys", "revoke", key.split("_")[1])
        with Client(address, key) as client, pytest.raises(Unauthorized):
            client.catalog()
    log = (tmp_path / "log").read_text()
    assert "/v1/analyses?api_key=gdx_" in log
    assert key.split("_")[2] not in log


def test_a_loopback_server_is_open_until_there_is_a_key(
    api: Operator, environment: dict[str, str], tmp_path: Path
) -> None:
    with served(environment, tmp_path) as address:
        with Client(address) as client:
            assert client.submit(SPEC).status == "queued"
        key = api("keys", "create", "--name", "me", "--owner", LOCAL).out.strip()
        with Client(address) as client, pytest.raises(Unauthorized):
            next(client.list())
        with Client(address, key) as client:
            assert len([*client.list()]) == 1


def test_a_database_without_the_schema_is_told(api: Operator) -> None:
    empty = Path(api.environment["GRADDX_DATA_DIR"]) / "empty.sqlite3"
    api.environment["GRADDX_DATABASE_URL"] = f"sqlite:///{empty}"
    ran = api("keys", "list")
    assert (ran.code, ran.out) == (1, "")
    assert "make migrate" in ran.told


def test_an_expired_key_opens_nothing() -> None:
    now = UtcClock().now()
    key, _ = mint("a", "a", frozenset(Scope), now, now + timedelta(hours=1))
    assert key.active(now + timedelta(minutes=59))
    assert not key.active(now + timedelta(hours=1))


def test_what_is_kept_too_long_is_swept(database: Database, tmp_path: Path) -> None:
    house = FrontDoor(database, tmp_path)
    client = house.client()
    kept, unused, waiting = (torchscript(one) for one in (b"1", b"2", b"3"))
    for content in (kept, unused):
        client.put("/v1/artifacts", content=content)
    key = {"idempotency-key": "k"}
    held = client.post("/v1/analyses", headers=key, **form(waiting)).json()["id"]

    def sweep(days: float = 90) -> None:
        sweep_once(Settings(unused_file_days=days), house.analyses, house.artifacts)

    sweep()
    assert len(house.on_disk()) == 3
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE artifacts SET used_at = '2020-01-01 00:00:00'")
        connection.exec_driver_sql("UPDATE idempotency_keys SET created_at = '2020-01-01 00:00:00'")
    client.put("/v1/artifacts", content=kept)  # sent again: used
    sweep(days=0)
    assert len(house.on_disk()) == 3
    sweep()
    assert house.on_disk() == sorted(map(digest, (kept, waiting)))
    assert client.get(f"/v1/artifacts/sha256:{digest(unused)}").status_code == 404
    assert client.get(f"/v1/analyses/{held}").status_code == 202
    assert client.post("/v1/analyses", headers=key, **form(waiting)).json()["id"] != held


def test_a_damaged_file_is_noticed_and_heals_when_it_is_sent_again(
    database: Database, tmp_path: Path
) -> None:
    files = FileArtifacts(tmp_path, database, UtcClock(), max_bytes=1000)
    at_work = bootstrap._FilesAtWork(files)
    stored = files.owned_by("alice").put([b"hello"])
    at_work.of("alice")
    assert at_work.path(stored.id).read_bytes() == b"hello"
    at_work.path(stored.id).write_bytes(b"jello")
    with pytest.raises(ArtifactNotFound, match="damaged"):
        at_work.path(stored.id)
    files.owned_by("alice").put([b"hello"])
    assert at_work.path(stored.id).read_bytes() == b"hello"
    at_work.of("bob")
    with pytest.raises(ArtifactNotFound):
        at_work.path(stored.id)
