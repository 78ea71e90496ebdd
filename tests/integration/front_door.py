"""The app over a real database and real files, with two owners who have a key each."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from api.app import create_app
from service.config import Settings
from service.domain.analysis import Queue
from service.domain.api_keys import Scope, mint
from service.intake.program import program_in
from service.intake.unknown import describe
from service.storage.analyses import SqlAnalyses
from service.storage.api_keys import SqlApiKeys
from service.storage.artifact_store import FileArtifacts
from service.storage.session import Database
from service.storage.tensor_headers import read_headers
from service.use_cases import UseCases
from tests.integration.stored_examples import report

SPEC: dict[str, Any] = {
    "kind": "spec",
    "input": {"shape": [8]},
    "layers": [{"name": "fc1", "type": "Linear", "args": {"out_features": 4}}],
}
INPUTS = {"inputs": [{"shape": [3]}]}


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class NoDispatcher:
    def __init__(self) -> None:
        self.told: list[str] = []

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def dispatch(self, analysis_id: str, queue: Queue) -> None:
        self.told.append(analysis_id)

    def workers_alive(self) -> int:
        return 1


class FrontDoor:
    """What a caller reaches, and what stands behind it."""

    def __init__(self, database: Database, folder: Path, **settings: Any) -> None:
        self.clock = WallClock()
        self.files = folder / "artifacts"
        self.analyses = SqlAnalyses(database, self.clock)
        self.artifacts = FileArtifacts(self.files, database, self.clock, max_bytes=10**6)
        self.keys = SqlApiKeys(database, self.clock)
        self.dispatcher = NoDispatcher()
        self.use_cases = UseCases(
            self.analyses,
            self.artifacts,
            self.keys,
            self.dispatcher,
            self.clock,
            version="1",
            open_without_keys=settings.pop("open_without_keys", True),
            queue_limit=settings.pop("queue_limit", 100),
            needs_worker=False,
            why_uploads_are_refused=None,
            guess_inputs=lambda _: (),
            read_headers=read_headers,
            check_model=lambda *_: None,
            describe_unknown=describe,
            read_program=program_in,
        )
        self.app = create_app(self.use_cases, Settings(**settings))

    def key_for(self, owner: str, *scopes: Scope) -> str:
        """A new key of this owner."""
        wanted = frozenset(scopes or Scope)
        key, text = mint("test", owner, wanted, self.clock.now())
        self.keys.add(key)
        return text

    def client(self, key: str | None = None) -> TestClient:
        """One that sends this key."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return TestClient(self.app, headers=headers)

    def finish(self) -> str:
        """Let the oldest waiting analysis succeed."""
        claim = self.analyses.claim("w1", lease_seconds=60)
        assert claim is not None
        assert self.analyses.succeed(claim, report())
        return claim.analysis.id

    def on_disk(self) -> list[str]:
        """Names of stored files."""
        return sorted(path.name for path in self.files.rglob("*") if path.is_file())


def torchscript(content: bytes = b"x") -> bytes:
    """A file that is TorchScript by its looks."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for member in ("net/constants.pkl", "net/code/__torch__.py"):
            archive.writestr(zipfile.ZipInfo(member), content)
    return made.getvalue()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def form(content: bytes, **request: Any) -> dict[str, Any]:
    """Arguments of a POST with this model."""
    said = json.dumps({"probe": INPUTS, **request})
    return {"files": {"model": ("net.pt", content)}, "data": {"request": said}}
