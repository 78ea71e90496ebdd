"""CONTRIBUTING.md names the places that a detector, a remedy, a layer type or an initializer
touches; here is told which one was forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from service.diagnosis import ALL_DETECTORS
from service.diagnosis.detectors import dead_units
from service.domain.layers import LAYER_TYPES
from service.domain.request import ALL_KINDS
from service.recommendation import ALL_REMEDIES
from service.recommendation.remedies import clipping
from tests.unit.recommendation.test_recommend import MUST_OFFER

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
ALWAYS_OFFERED = {remedy.kind for remedy in ALL_REMEDIES if not remedy.cures} | {"pretraining"}
"""These need no case of a model that calls for them; pretraining is offered only where the
activation has to stay."""


def modules(of: object) -> set[str]:
    """Names of the modules beside this one."""
    folder = Path(str(getattr(of, "__file__", ""))).parent
    return {path.stem for path in folder.glob("*.py")} - {"__init__"}


def sections(page: str) -> set[str]:
    """Headings of the second level."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return set(re.findall(r"^## (.+)$", text, re.MULTILINE))


def forgotten(places: Mapping[str, Iterable[str]]) -> list[str]:
    """What stands in one of the places and not in all."""
    known = set().union(*places.values())
    return [
        f"{name}: forgotten in {place}"
        for name in sorted(known)
        for place, names in places.items()
        if name not in names
    ]


def test_what_was_forgotten_is_named() -> None:
    places = {"the registry": ["a", "b"], "docs": ["b", "c"]}
    assert forgotten(places) == ["a: forgotten in docs", "c: forgotten in the registry"]


def test_a_detector_is_in_all_its_places() -> None:
    cases = TESTS / "unit" / "diagnosis" / "cases"
    assert not forgotten(
        {
            "service/diagnosis/detectors/": modules(dead_units),
            "ALL_DETECTORS": [detector.code for detector in ALL_DETECTORS],
            "tests/unit/diagnosis/cases/": [path.stem for path in cases.glob("*.json")],
            "docs/detectors.md (python -m service.diagnosis)": sections("docs/detectors.md"),
        }
    )


def test_a_remedy_is_in_all_its_places() -> None:
    offered = {kind for *_, kinds in MUST_OFFER for kind in kinds}
    assert not forgotten(
        {
            "service/recommendation/remedies/": modules(clipping),
            "ALL_REMEDIES": [remedy.kind for remedy in ALL_REMEDIES],
            "MUST_OFFER of tests/unit/recommendation/test_recommend.py": offered | ALWAYS_OFFERED,
            "docs/remedies.md (python -m service.recommendation)": sections("docs/remedies.md"),
        }
    )


def test_a_remedy_is_of_a_kind_that_a_request_may_allow() -> None:
    assert {remedy.kind for remedy in ALL_REMEDIES} <= {*ALL_KINDS}


def test_every_finding_with_a_remedy_has_its_detector() -> None:
    codes = {detector.code for detector in ALL_DETECTORS}
    cured = set().union(*(remedy.cures for remedy in ALL_REMEDIES))
    assert cured <= codes


def test_a_layer_type_is_registered() -> None:
    """That torch agrees with each entry, and that none is missing, tests/probing tells."""
    from service.domain import layers

    families = {
        path.stem: set(re.findall(r"^([A-Z]+_TYPES) = ", path.read_text("utf-8"), re.MULTILINE))
        for path in Path(str(layers.__file__)).parent.glob("*.py")
    }
    registered = set(re.findall(r"\b[A-Z]+_TYPES\b", Path(str(layers.__file__)).read_text("utf-8")))
    assert set().union(*families.values()) == registered - {"LAYER_TYPES"}
    assert all(name == layer_type.name for name, layer_type in LAYER_TYPES.items())
