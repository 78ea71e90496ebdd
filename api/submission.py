"""Reading what is posted: JSON, a multipart form, or the bytes of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO

import anyio.from_thread
import anyio.to_thread
from anyio import CapacityLimiter
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from api.error_handlers import UnsupportedMediaType
from api.json_body import parse_json, pointer
from api.middleware import too_large
from api.schemas.reading import read_analysis, read_options, refuse
from service.domain.errors import Fault, InvalidRequest, NotYetSupported
from service.domain.request import AnalysisRequest, ModelRequest
from service.use_cases import Artifact, Engine

CHUNK = 1 << 20
"""Bytes read at a time from an uploaded file."""
MAX_PARTS = 8
"""Files, and fields, of a form; more than any call knows."""
PARTS = ("model", "data", "request")
"""Parts of the form of `POST /v1/analyses`."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads one request."""

    request: Request
    engine: Engine
    max_json: int
    """Largest JSON body, bytes."""
    uploads: CapacityLimiter
    """Threads for uploads: slow senders must not take those that answer everyone else."""

    async def analysis(self) -> AnalysisRequest:
        """JSON, or a form with a file `model` and JSON `request`. A file is stored only after
        everything else was found right. Raises InvalidRequest, UnsupportedMediaType."""
        match self._media_type():
            case "application/json":
                return read_analysis(parse_json(await self._json_body()))
            case "multipart/form-data":
                return await self._form_analysis()
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

    async def _form_analysis(self) -> AnalysisRequest:
        async with self._form() as form:
            _check_parts(form)
            body = parse_json(await self._request_part(form))
            model = form.get("model")
            if not isinstance(model, UploadFile):
                return read_analysis(body)
            if "model" in body:
                raise InvalidRequest("given both in request and as a file", pointer="/model")
            options = read_options(body)
            try:
                artifact = await self._store_file(model.file)
            except InvalidRequest as error:
                raise error.within("/model") from error
            return options.to_domain(ModelRequest("artifact", artifact_id=artifact.id))

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
        try:
            yield form
        finally:
            await form.close()


def _check_parts(form: FormData) -> None:
    names = [name for name, _ in form.multi_items()]
    faults = [Fault(pointer((name,)), "unknown part") for name in names if name not in PARTS]
    faults += [Fault(pointer((name,)), "sent twice") for name in PARTS if names.count(name) > 1]
    if isinstance(form.get("model"), str):
        faults.append(Fault("/model", "must be a file: -F model=@net.pt"))
    if faults:
        raise refuse(faults)
    if "data" in names:
        raise NotYetSupported("a file of data is not yet supported", pointer="/data")


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)
