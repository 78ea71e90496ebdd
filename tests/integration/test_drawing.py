"""The process that draws, for real."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import anyio
import pytest

from api.report import drawing
from api.report.chart import FILE, PAGE, specification
from api.report.charts import charts
from api.report.drawing import ProcessDrawer
from tests.unit.api.reports import remembering, sick_report

PNG = b"\x89PNG\r\n\x1a\n"
EVIL = "</svg><script>alert(1)</script><a href='javascript:alert(1)'>\" + datum.value + '{}"


def drawn(*specs: Any, form: Any = "svg") -> list[bytes | None]:
    async def draw() -> list[bytes | None]:
        drawer = ProcessDrawer()
        try:
            return await drawer.draw(specs, form)
        finally:
            await drawer.close()

    return anyio.run(draw)


def test_every_chart_becomes_a_picture() -> None:
    made = (*charts(sick_report(30)), *charts(remembering()))
    names = {one.name for one in made}
    assert names >= {"gradient-flow", "gain", "memory", "activation-scale", "saturation", "loss"}
    for one, picture in zip(made, drawn(*(specification(one, PAGE) for one in made)), strict=True):
        assert picture is not None, one.name
        root = ElementTree.fromstring(picture)
        assert root.tag.endswith("}svg")
        said = " ".join(root.itertext())
        assert one.upward in said
        for series in one.series:
            assert series.name in said
            assert f'stroke="var(--{series.colour})"'.encode() in picture
        assert b" style=" not in picture, "the page's policy forbids it"


def test_names_are_only_text() -> None:
    (first, *_) = charts(sick_report(3, name=EVIL))
    (picture,) = drawn(specification(first, FILE))
    assert picture is not None
    tags = {one.tag.rpartition("}")[2] for one in ElementTree.fromstring(picture).iter()}
    assert tags <= {"svg", "g", "path", "line", "text", "rect", "defs", "clipPath"}


def test_png_and_what_vega_refuses() -> None:
    (first, *_) = charts(sick_report(3))
    picture, refused = drawn(specification(first, FILE), {"mark": "no such mark"}, form="png")
    assert picture is not None
    assert picture.startswith(PNG)
    assert refused is None


def test_nothing_is_fetched(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    encoding = {"text": {"field": "b", "type": "nominal"}}
    addresses = (secret.as_uri(), "http://127.0.0.1:1/x.csv")
    specs = [{"data": {"url": one}, "mark": "text", "encoding": encoding} for one in addresses]
    for picture in drawn(*specs):
        assert picture is None or b">2<" not in picture


def test_one_that_hangs_is_ended_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = specification(charts(sick_report(3))[0], FILE)

    async def story() -> None:
        drawer = ProcessDrawer()
        assert (await drawer.draw([spec], "svg"))[0]
        assert drawer._pen is not None
        pid = drawer._pen.pid
        assert Path(f"/proc/{pid}/environ").read_bytes() == b"", "no secret of the server's"
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(drawing, "SECONDS", 0.2)
        assert await drawer.draw([spec], "png") == [None]
        assert (await drawer.draw([spec], "svg"))[0], "what was drawn is remembered"
        monkeypatch.undo()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        picture = (await drawer.draw([spec], "png"))[0]
        assert picture is not None
        assert picture.startswith(PNG)
        await drawer.close()

    anyio.run(story)
