"""Repaired weights belong to the analysis that made them: they go with it, and not before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.domain.analysis import Analysis
from service.domain.errors import ArtifactNotFound
from service.domain.recommendations import Prescription
from service.ports import Artifact
from service.storage.analyses import SqlAnalyses
from service.storage.artifact_store import FileArtifacts
from service.storage.session import Database
from tests.integration.stored_examples import START, HeldClock, queued, report

CONTENT = b"\x08\0\0\0\0\0\0\0{}      "
"""A safetensors file without tensors."""


class House:
    """A store and its analyses."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.folder = folder
        self.clock = HeldClock()
        self.analyses = SqlAnalyses(database, self.clock)
        self.files = FileArtifacts(folder, database, self.clock, max_bytes=1000)

    def finished(self, weights: Artifact | None, **request: Any) -> Analysis:
        """An analysis that has made these weights."""
        self.clock.advance(0.001)
        asked = queued(self.clock.now())
        analysis = replace(asked, request=replace(asked.request, **request))
        self.analyses.add(analysis)
        claim = self.analyses.claim("w1", lease_seconds=15)
        assert claim is not None
        cure = Prescription(("r1",), "healthy", None, None, None, weights.id if weights else None)
        assert self.analyses.succeed(claim, replace(report(), prescription=cure))
        return self.analyses.get(analysis.id)

    def delete(self, analysis: Analysis) -> None:
        self.analyses.delete(analysis.id)
        self.files.discard()

    def has(self, artifact: Artifact) -> bool:
        try:
            return self.files.path(artifact.id).exists()
        except ArtifactNotFound:
            assert not [path for path in self.folder.rglob("*") if path.is_file()]
            return False


@pytest.fixture
def house(database: Database, tmp_path: Path) -> House:
    return House(database, tmp_path / "files")


def test_they_go_with_their_analysis(house: House) -> None:
    weights = house.files.keep(CONTENT)
    assert weights.format == "safetensors"
    analysis = house.finished(weights)
    house.files.discard()
    assert house.has(weights)
    house.delete(analysis)
    assert not house.has(weights)


@pytest.mark.parametrize("first", [0, 1])
def test_two_analyses_that_made_the_same(house: House, first: int) -> None:
    both = [house.finished(house.files.keep(CONTENT)) for _ in range(2)]
    weights = house.files.keep(CONTENT)
    house.delete(both[first])
    assert house.has(weights)
    house.delete(both[1 - first])
    assert not house.has(weights)


@pytest.mark.parametrize("sent_first", [True, False])
def test_what_somebody_sent_stays_theirs(house: House, sent_first: bool) -> None:
    if sent_first:
        house.files.put([CONTENT])
    weights = house.files.keep(CONTENT)
    analysis = house.finished(weights)
    if not sent_first:
        house.files.put([CONTENT])
    house.delete(analysis)
    assert house.has(weights)
    house.files.delete(weights.id)
    assert not house.has(weights)


def test_an_analysis_of_the_weights_keeps_them_as_long_as_it_is_there(house: House) -> None:
    weights = house.files.keep(CONTENT)
    maker = house.finished(weights)
    model = replace(maker.request.model, weights_id=weights.id)
    reader = house.finished(None, model=model)
    house.delete(maker)
    assert house.has(weights)
    house.delete(reader)
    assert not house.has(weights)


def test_an_analysis_that_made_what_it_was_given(house: House) -> None:
    weights = house.files.put([CONTENT])
    model = replace(queued(START).request.model, weights_id=weights.id)
    again = house.files.keep(CONTENT)
    assert again.id == weights.id
    house.delete(house.finished(again, model=model))
    assert house.has(weights)


def test_a_copied_answer_owns_the_weights_too(house: House) -> None:
    weights = house.files.keep(CONTENT)
    source = house.finished(weights)
    house.clock.advance(0.001)
    copy = queued(house.clock.now())
    house.analyses.add(copy, copied_from=source.id)
    house.delete(source)
    assert house.has(weights)
    found = house.analyses.get(copy.id).report
    assert found is not None
    assert found.prescription is not None
    assert found.prescription.weights == weights.id
    house.delete(house.analyses.get(copy.id))
    assert not house.has(weights)


def test_weights_that_are_gone_when_the_result_is_stored(house: House) -> None:
    weights = house.files.keep(CONTENT)
    house.files.delete(weights.id)
    analysis = house.finished(weights)
    assert not house.has(weights)
    house.delete(analysis)
