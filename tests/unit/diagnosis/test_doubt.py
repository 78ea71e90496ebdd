"""Models that the statistics of step 0 cannot judge for sure are tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from service.diagnosis.detector import Case
from service.diagnosis.doubt import Doubt, doubt
from service.domain.measurements import Measurements

Build = Callable[[dict[str, Any]], Case]
FLAT = {"gradient": [0.1] * 4}


@pytest.fixture
def plain(case_of: Build) -> Measurements:
    return case_of(FLAT).measured


def test_usual_networks_are_not_doubted(plain: Measurements) -> None:
    assert doubt(plain) == Doubt()
