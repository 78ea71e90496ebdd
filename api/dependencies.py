"""What routes ask for by type."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Path, Request

from api.report.drawing import Drawer
from api.submission import Reader
from service.domain.api_keys import Caller
from service.domain.errors import AnalysisNotFound, ArtifactNotFound
from service.use_cases import Engine

_ANALYSIS_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ARTIFACT_ID = re.compile(r"sha256:[0-9a-f]{64}")


def _server(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


ServerDep = Annotated[Engine, Depends(_server)]
"""The engine for what is no owner's: is it ready?"""


def _engine(request: Request) -> Engine:
    """As the caller's owner has it: no route can reach what is somebody else's. The doorkeeper
    has told who calls, except on the paths that are open."""
    caller: Caller = request.state.caller
    return _server(request).owned_by(caller.owner)


EngineDep = Annotated[Engine, Depends(_engine)]


def _drawer(request: Request) -> Drawer:
    drawer: Drawer = request.app.state.drawer
    return drawer


DrawerDep = Annotated[Drawer, Depends(_drawer)]


def _reader(request: Request, engine: EngineDep) -> Reader:
    state = request.app.state
    return Reader(request, engine, max_json=state.settings.max_body_mb << 20, uploads=state.uploads)


ReaderDep = Annotated[Reader, Depends(_reader)]


def checked_analysis_id(analysis_id: str) -> str:
    """The same. Raises AnalysisNotFound for what no analysis is called."""
    if not _ANALYSIS_ID.fullmatch(analysis_id):
        raise AnalysisNotFound("no analysis has this id")
    return analysis_id


def _analysis_id(
    analysis_id: Annotated[str, Path(description="`id` of the answer to POST.")],
) -> str:
    return checked_analysis_id(analysis_id)


AnalysisId = Annotated[str, Depends(_analysis_id)]


def _artifact_id(
    artifact_id: Annotated[str, Path(description='"sha256:" and 64 hexadecimal digits.')],
) -> str:
    if not _ARTIFACT_ID.fullmatch(artifact_id):
        raise ArtifactNotFound("no artifact has this id")
    return artifact_id


ArtifactId = Annotated[str, Depends(_artifact_id)]
