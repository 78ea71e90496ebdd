"""Answers to keep as a file: named, and not sent again to whoever has them (RFC 9110, ETag)."""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response


def download(
    request: Request, content: str, media_type: str, filename: str, *, vary: str | None = None
) -> Response:
    """A text, or 304 when the caller has it. `vary`: the header that its form depends on."""
    body = content.encode()
    etag = f'"{hashlib.sha256(body).hexdigest()}"'
    headers = _headers(etag, filename) | ({"Vary": vary} if vary else {})
    if _is_known(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


def picture(request: Request, body: bytes, media_type: str) -> Response:
    """To be shown, or 304 when the caller has it. A picture may not run or fetch anything."""
    headers = {
        "ETag": f'"{hashlib.sha256(body).hexdigest()}"',
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    }
    if _is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


def file_download(
    request: Request, path: Path, digest: str, media_type: str, filename: str
) -> Response:
    """A stored file, streamed, or 304 when the caller has it; parts of it by `Range`."""
    headers = _headers(f'"{digest}"', filename)
    if _is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return FileResponse(path, media_type=media_type, headers=headers)


def _headers(etag: str, filename: str) -> dict[str, str]:
    return {"ETag": etag, "Content-Disposition": f'attachment; filename="{filename}"'}


def _is_known(request: Request, etag: str) -> bool:
    given = request.headers.get("if-none-match", "")
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    return etag in tags or "*" in tags
