"""Reading and passing on what is posted: JSON, a multipart form, or the bytes of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO

import anyio.from_thread
import anyio.to_thread
import structlog
from anyio import CapacityLimiter
from asgi_correlation_id import correlation_id
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from api.error_handlers import UnsupportedMediaType
from api.json_body import parse_json, pointer
from api.middleware import too_large
from api.schemas.reading import read_analysis, read_options, refuse
from service.domain.analysis import Analysis
from service.domain.errors import (
    NO_ROOM,
    ArtifactNotFound,
    Fault,
    GraddxError,
    InvalidRequest,
    StorageFull,
)
from service.domain.request import AnalysisRequest, ModelRequest
from service.use_cases import Artifact, Engine, Submitted

log = structlog.get_logger()

CHUNK = 1 << 20
"""Bytes read at a time from an uploaded file."""
MAX_PARTS = 8
"""Files, and fields, of a form; more than any call knows."""
MORE_TRIES = 3
"""For a form whose file was deleted between storing it and asking for its analysis."""
FILES = ("model", "data")
"""Parts of the form of `POST /v1/analyses` that are files."""
PARTS = (*FILES, "request")
"""All of its parts."""
REQUEST_ID = 64
"""Characters that are kept of the id of a call."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads one request."""

    request: Request
    engine: Engine
    max_json: int
    """Largest JSON body, bytes."""
    uploads: CapacityLimiter
    """Threads for uploads: slow senders must not take those that answer everyone else."""

    async def submit(self, key: str | None = None) -> Analysis:
        """JSON, or a form with files `model` and `data` and JSON `request`. Files are stored only
        after everything else was found right. `key`: the Idempotency-Key. Raises InvalidRequest,
        UnsupportedMediaType, and what the engine does."""
        match self._media_type():
            case "application/json":
                # In a thread: a large spec takes seconds, and others wait meanwhile.
                body = await self._json_body()
                request = await anyio.to_thread.run_sync(_read, body)
                return (await self._submit(request, key)).analysis
            case "multipart/form-data":
                async with self._form() as form:
                    return await self._submit_form(form, key)
            case other:
                raise UnsupportedMediaType(
                    f"send application/json or multipart/form-data, not {other or 'nothing'}"
                )

    async def artifact(self) -> Artifact:
        """A file: the one file part of a form, else the body itself. Raises InvalidRequest."""
        if self._media_type() != "multipart/form-data":
            return await self._store_stream(self.request.stream())
        async with self._form() as form:
            files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
            if len(files) != 1 or len(form.multi_items()) != 1:
                raise InvalidRequest("send one file part and nothing else")
            return await self._store_file(files[0].file)

    def _media_type(self) -> str:
        return self.request.headers.get("content-type", "").split(";")[0].strip().lower()

    async def _json_body(self) -> bytes:
        body = bytearray()
        async for chunk in self.request.stream():
            body += chunk
            if len(body) > self.max_json:
                raise too_large(self.max_json)
        return bytes(body)

    async def _submit(self, request: AnalysisRequest, key: str | None) -> Submitted:
        request_id = _request_id()
        if key is not None:
            once = partial(self.engine.submit_once, request, key, request_id=request_id)
            submitted = await anyio.to_thread.run_sync(once)
        else:
            plain = partial(self.engine.submit, request, request_id=request_id)
            submitted = Submitted(await anyio.to_thread.run_sync(plain), False)
        made = submitted.analysis
        log.info("submitted", analysis=made.id, request_id=request_id, queue=made.queue.value)
        return submitted

    async def _submit_form(self, form: FormData, key: str | None) -> Analysis:
        _check_parts(form)
        part = await self._request_part(form)
        request = await anyio.to_thread.run_sync(_without_files, part, form)
        stored: list[Artifact] = []
        try:
            submitted = await self._submit_stored(request, form, stored, key)
        except GraddxError:
            await self._withdraw(request, stored)
            raise
        if submitted.repeated:
            await self._withdraw(request, stored)
        return submitted.analysis

    async def _submit_stored(
        self, request: AnalysisRequest, form: FormData, stored: list[Artifact], key: str | None
    ) -> Submitted:
        for _ in range(MORE_TRIES):
            try:
                return await self._submit(await self._with_files(request, form, stored), key)
            except ArtifactNotFound:
                if await self._all_there(stored):
                    raise
                # Another call sent the same file, did not retain it and ended since.
        return await self._submit(await self._with_files(request, form, stored), key)

    async def _withdraw(self, request: AnalysisRequest, stored: list[Artifact]) -> None:
        """Files of a call that made no analysis are kept only where the caller said so."""
        if request.retain != "all":
            for artifact in stored:
                await anyio.to_thread.run_sync(self.engine.withdraw, artifact)

    async def _with_files(
        self, request: AnalysisRequest, form: FormData, stored: list[Artifact]
    ) -> AnalysisRequest:
        """The request with its files stored; `stored` tells them even when one is refused."""
        stored.clear()
        if (model := _file(form, "model")) is not None:
            stored.append(await self._store_part(model, "/model"))
            request = replace(request, model=ModelRequest("artifact", artifact_id=stored[-1].id))
        if (data := _file(form, "data")) is not None:
            stored.append(await self._store_part(data, "/probe/data"))
            request = replace(request, probe=replace(request.probe, data=stored[-1].id))
        return request

    async def _store_part(self, file: UploadFile, where: str) -> Artifact:
        await file.seek(0)
        try:
            return await self._store_file(file.file)
        except InvalidRequest as error:
            raise error.within(where) from error

    async def _all_there(self, stored: list[Artifact]) -> bool:
        try:
            for artifact in stored:
                await anyio.to_thread.run_sync(self.engine.artifact, artifact.id)
        except ArtifactNotFound:
            return False
        return True

    async def _request_part(self, form: FormData) -> bytes | str:
        part = form.get("request", "{}")
        if isinstance(part, str):
            return part
        if (part.size or 0) > self.max_json:
            raise too_large(self.max_json)
        return await part.read()

    async def _store_stream(self, chunks: AsyncIterator[bytes]) -> Artifact:
        def pulled() -> Iterator[bytes]:
            while True:
                chunk = anyio.from_thread.run(_next, chunks)
                if chunk is None:
                    return
                yield chunk

        return await self._store(pulled())

    async def _store_file(self, file: BinaryIO) -> Artifact:
        return await self._store(iter(lambda: file.read(CHUNK), b""))

    async def _store(self, chunks: Iterator[bytes]) -> Artifact:
        return await anyio.to_thread.run_sync(
            self.engine.put_artifact, chunks, limiter=self.uploads
        )

    @asynccontextmanager
    async def _form(self) -> AsyncIterator[FormData]:
        """Files are spooled to disk and gone at the end."""
        try:
            form = await self.request.form(
                max_files=MAX_PARTS, max_fields=MAX_PARTS, max_part_size=self.max_json
            )
        except HTTPException as error:
            raise InvalidRequest(f"not a valid form: {error.detail}") from error
        except OSError as error:
            if error.errno in NO_ROOM:
                raise StorageFull("the disk of this server is full") from error
            raise
        try:
            yield form
        finally:
            await form.close()


def _check_parts(form: FormData) -> None:
    names = [name for name, _ in form.multi_items()]
    faults = [Fault(pointer((name,)), "unknown part") for name in names if name not in PARTS]
    faults += [Fault(pointer((name,)), "sent twice") for name in PARTS if names.count(name) > 1]
    faults += [
        Fault(pointer((name,)), f"must be a file: -F {name}=@path")
        for name in FILES
        if isinstance(form.get(name), str)
    ]
    if faults:
        raise refuse(faults)


def _read(body: bytes) -> AnalysisRequest:
    return read_analysis(parse_json(body))


def _without_files(part: bytes | str, form: FormData) -> AnalysisRequest:
    """What the part `request` says; what comes as a file is still to be filled in."""
    body = parse_json(part)
    twice = "given both in request and as a file"
    if _file(form, "model") is None:
        request = read_analysis(body)
    elif "model" in body:
        raise InvalidRequest(twice, pointer="/model")
    else:
        request = read_options(body).to_domain(ModelRequest("artifact"))
    if request.probe.data is not None and _file(form, "data") is not None:
        raise InvalidRequest(twice, pointer="/probe/data")
    return request


def _file(form: FormData, name: str) -> UploadFile | None:
    """None also for what a browser sends of a field in which no file was chosen."""
    part = form.get(name)
    if not isinstance(part, UploadFile) or not (part.filename or part.size):
        return None
    return part


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


def _request_id() -> str | None:
    """Of this call; callers may send any, the database keeps the beginning."""
    told = correlation_id.get()
    return None if told is None else told[:REQUEST_ID]
