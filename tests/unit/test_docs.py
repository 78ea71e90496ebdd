"""What the pages refer to exists: files, settings, targets."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from service.config import PREFIX, Settings
from service.domain.architecture import resolve

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("client/*.md")])
}
DECISIONS = [page for page in PAGES if page.startswith("docs/decisions/")]
MAX_DECISION_LINES = 40
TOP = {path.name for path in ROOT.iterdir()}
ELSEWHERE = {"GRADDX_URL", "GRADDX_API_KEY"}
"""Variables that the client reads."""


def text_of(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


def in_a_heading(target: str, anchor: str) -> bool:
    """Whether a page has the heading that an anchor means (as GitHub forms it)."""
    headings = re.findall(r"^#+ (.+)$", Path(target).read_text(encoding="utf-8"), re.MULTILINE)
    return anchor in {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (PAGES[page].parent / path) if path else PAGES[page]
        assert target.exists(), link
        assert not anchor or in_a_heading(str(target), anchor), link


@pytest.mark.parametrize("page", PAGES)
def test_paths_in_code_marks_exist(page: str) -> None:
    """`docs/ci.md`, `service/probing/`, `tests/unit/<room>/test_*.py`: seen from the root, from the
    page, or as a file of the root."""
    for path in re.findall(r"`([\w./<>*{},-]+)`", text_of(page)):
        first, slash, _ = path.partition("/")
        if path in {"net.pt", "net.json"} or not slash or first not in TOP:
            continue
        options = re.fullmatch(r"(.*)\{(.*)\}(.*)", path)
        names = (
            [f"{options[1]}{o}{options[3]}" for o in options[2].split(",")] if options else [path]
        )
        for name in names:
            pattern = re.sub(r"<[^>]+>", "*", name).rstrip("/")
            assert any(ROOT.glob(pattern)), path


@pytest.mark.parametrize("page", PAGES)
def test_settings_exist(page: str) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | ELSEWHERE
    assert set(re.findall(r"\bGRADDX_[A-Z_]+\b", text_of(page))) <= known


def test_every_setting_is_in_the_example() -> None:
    given = (ROOT / ".env.example").read_text(encoding="utf-8")
    told = re.findall(rf"^({PREFIX}[A-Z_]+)=", given, re.MULTILINE)
    assert sorted(told) == sorted(PREFIX + name.upper() for name in Settings.model_fields)


@pytest.mark.parametrize("page", PAGES)
def test_targets_exist(page: str, targets: set[str]) -> None:
    """`make run`, also inside blocks of shell."""
    blocks = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", text_of(page), re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    marked = re.findall(r"`(make [^`]+)`", text_of(page))
    for command in [*lines, *marked]:
        for target in re.findall(r"(?:^|&& )make ([a-z]+)\b", command):
            assert target in targets, command


@pytest.mark.parametrize("page", DECISIONS)
def test_a_decision_is_short_and_numbered(page: str) -> None:
    name, lines = Path(page).name, text_of(page).splitlines()
    assert len(lines) <= MAX_DECISION_LINES
    assert lines[0].startswith(f"# {int(name[:4])}. ")
    assert any(line.startswith("**Decision.**") for line in lines)


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(Path(page).name[:4]) for page in DECISIONS]
    assert numbers == [*range(1, len(numbers) + 1)]


def test_the_glossary_has_one_row_a_word() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text_of("docs/glossary.md"), re.M)
    words = [row[0] for row in rows if row[0] not in ("word", "---")]
    assert len(words) > 40
    assert len(words) == len({*words})


def test_every_spec_on_its_page_is_one() -> None:
    blocks = re.findall(r"^```json\n(.*?)^```", text_of("docs/specs.md"), re.M | re.S)
    assert len(blocks) >= 5
    for block in blocks:
        assert resolve(json.loads(block)).layers
