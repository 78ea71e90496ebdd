"""Which form of the answer the caller asked for."""

from __future__ import annotations

from starlette.requests import Request

from api.error_handlers import NotAcceptable

JSON = "application/json"
CSV = "text/csv"
HTML = "text/html"
SVG = "image/svg+xml"
PNG = "image/png"


def negotiate(request: Request, *offered: str) -> str:
    """The first offered media type that Accept allows best. Raises NotAcceptable.

    Problems are sent whatever Accept says, so asking for them alone is asking for JSON."""
    accepted = _accepted(request.headers.getlist("accept"))
    best = max(offered, key=lambda media: _quality(media, accepted))
    if _quality(best, accepted) > 0:
        return best
    raise NotAcceptable(f"this answer comes as {' or '.join(offered)}")


def _accepted(headers: list[str]) -> list[tuple[str, float]]:
    ranges = [part for header in headers for part in header.split(",") if part.strip()]
    return [_media_range(part) for part in ranges] or [("*/*", 1.0)]


def _media_range(text: str) -> tuple[str, float]:
    media, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
    try:
        return media, float(quality)
    except ValueError:
        return media, 1.0


def _quality(media: str, accepted: list[tuple[str, float]]) -> float:
    """Of the most specific range that covers it; 0 when none does."""
    kind = media.partition("/")[0]
    covering = {"application/problem+json": JSON}
    weights = {covering.get(name, name): quality for name, quality in accepted}
    for name in (media, f"{kind}/*", "*/*"):
        if name in weights:
            return weights[name]
    return 0.0
