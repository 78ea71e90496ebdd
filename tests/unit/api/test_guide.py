"""The docs as pages: whole, linked, and served with nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit
from xml.etree.ElementTree import Element

import html5lib
import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.guide.build import ROOT, build
from api.guide.contents import CONTENTS, UNLISTED, Page, pages
from api.guide.markdown import Unreachable, write
from api.links import docs_address, docs_path
from api.routes import guide
from service.config import Settings
from service.diagnosis.detectors import ALL_DETECTORS
from tests.unit.api.fake_engine import FakeEngine

HERE = Page("A", "docs/a.md", "Part")
THERE = Page("B", "docs/decisions/b.md", "Part")
BOTH = {one.source: one for one in (HERE, THERE)}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guide") / "site"
    build(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def trees(site: Path) -> dict[str, Element]:
    """The pages by their paths, read as strictly as HTML is written."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return {
        str(path.relative_to(site)): parser.parse(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
    }


@pytest.fixture
def reader(site: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setattr(guide, "SITE", site)
    return TestClient(create_app(FakeEngine(), Settings()))


def test_every_page_of_docs_is_in_the_guide(trees: dict[str, Element]) -> None:
    told = {page.source for page in pages(ROOT)}
    assert {str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md")} <= told
    assert len(trees) == len(told)
    assert {page.source for page in pages(ROOT)} >= {CONTENTS, "examples/README.md", "CHANGELOG.md"}


def test_every_link_leads_to_a_page_and_a_place_in_it(trees: dict[str, Element]) -> None:
    anchors = {name: {one.get("id") for one in tree.iter()} for name, tree in trees.items()}
    inside = 0
    for name, tree in trees.items():
        for link in (str(one.get("href")) for one in tree.iter("a")):
            address, anchor = urldefrag(urljoin(f"http://guide/{name}", link))
            parts = urlsplit(address)
            assert parts.scheme in ("http", "https"), link
            if parts.netloc != "guide":
                assert re.fullmatch(r"[\w.-]+(:\d+)?", parts.netloc), link
                continue
            inside += 1
            assert parts.path[1:] in trees, f"{name}: {link}"
            assert not anchor or anchor in anchors[parts.path[1:]], f"{name}: {link}"
    assert inside > len(trees) ** 2 / 2


def test_every_finding_is_explained_where_its_link_leads(
    reader: TestClient, trees: dict[str, Element]
) -> None:
    for detector in ALL_DETECTORS:
        path, anchor = urldefrag(docs_path(detector.code))
        assert reader.get(path).status_code == 200
        page = trees[path.removeprefix(f"{guide.GUIDE}/")]
        (heading,) = [one for one in page.iter() if one.get("id") == anchor]
        assert "".join(heading.itertext()) == detector.code


def test_a_link_of_a_finding_keeps_what_stands_before_the_api() -> None:
    address = docs_address("https://ci.example/graddx/v1/analyses/a1", "dead_units")
    assert address == "https://ci.example/graddx/guide/detectors.html#dead_units"


def test_an_anchor_stands_once(trees: dict[str, Element]) -> None:
    for name, tree in trees.items():
        ids = [one.get("id") for one in tree.iter() if one.get("id")]
        assert len(ids) == len(set(ids)), name


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(
    site: Path, trees: dict[str, Element]
) -> None:
    for name, tree in trees.items():
        assert not [*tree.iter("script"), *tree.iter("style"), *tree.iter("img")]
        for link in tree.iter("link"):
            assert (site / name).parent.joinpath(str(link.get("href"))).is_file()


def test_a_page_is_served_with_a_strict_policy(reader: TestClient) -> None:
    page = reader.get("/guide")
    assert (page.url.path, page.status_code) == ("/guide/", 200)
    assert "The guide" in page.text
    assert page.headers["content-security-policy"] == guide.POLICY
    assert "script" not in guide.POLICY
    assert "unsafe" not in guide.POLICY
    assert reader.get("/guide/decisions/").status_code == 200
    assert reader.get("/guide/graddx.css").headers["content-type"].startswith("text/css")


def test_what_is_not_there_is_told(reader: TestClient) -> None:
    page = reader.get("/guide/nowhere.html")
    assert page.status_code == 404
    assert "No such page" in page.text
    assert reader.get("/guide/..%2f..%2fREADME.md").status_code == 404


def test_an_unbuilt_guide_says_how_to_build_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guide, "SITE", tmp_path / "site")
    client = TestClient(create_app(FakeEngine(), Settings()))
    page = client.get("/guide/")
    html5lib.HTMLParser(strict=True).parse(page.text)
    assert page.status_code == 404
    assert "make docs" in page.text
    assert page.headers["content-security-policy"] == guide.POLICY
    build(ROOT, tmp_path / "site")
    assert client.get("/guide/").status_code == 200, "no new start is needed"


def test_a_page_that_the_contents_do_not_name_is_there(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/README.md").write_text("# Contents\n\n## One\n\n* [A](a.md): a\n")
    (tmp_path / "docs/a.md").write_text("# A\n")
    (tmp_path / "docs/new.md").write_text("# New\n")
    told = [(one.title, one.part, one.name) for one in pages(tmp_path)]
    assert told[1:] == [("A", "One", "a.html"), ("New", UNLISTED, "new.html")]


def test_file_names_and_links_lead_to_pages() -> None:
    html = write("`docs/a.md` `docs/c.md` [`docs/a.md`](../a.md#x)", THERE, BOTH).html
    assert html.count('href="../a.html"') == 1
    assert html.count('href="../a.html#x"') == 1
    assert "<code>docs/c.md</code>" in html


def test_a_link_to_nothing_is_an_error() -> None:
    with pytest.raises(Unreachable, match=r"docs/a\.md links to c\.md"):
        write("[c](c.md)", HERE, BOTH)


def test_markup_in_a_page_is_shown_not_passed_on() -> None:
    html = write("<script>1</script> `<b>` <!-- seen by tests -->", HERE, BOTH).html
    assert "<script>" not in html
    assert "<code>&lt;b&gt;</code>" in html
    assert "seen by tests" not in html


def test_headings_alike_have_anchors_of_their_own() -> None:
    told = write("## Two words\n\n## Two words\n", HERE, BOTH).headings
    assert [one.anchor for one in told] == ["two-words", "two-words-1"]
