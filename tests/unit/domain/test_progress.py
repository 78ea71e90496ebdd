"""How far an analysis is."""

from __future__ import annotations

from itertools import pairwise

import pytest

from service.domain.analysis import Stage
from service.domain.progress import END, STARTS, progress


def test_every_stage_begins_after_the_one_before() -> None:
    assert list(STARTS) == list(Stage)
    assert all(before < after for before, after in pairwise([0, *STARTS.values(), END]))


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("expected", [None, 0, 1, 7])
def test_it_grows_with_every_answer_and_stays_in_its_stage(
    stage: Stage, expected: int | None
) -> None:
    percents = [progress(stage, answered, expected).percent for answered in range(1000)]
    following = [*STARTS.values(), END]
    end = following[following.index(STARTS[stage]) + 1]
    assert percents == sorted(percents)
    assert percents[0] == STARTS[stage]
    assert max(percents) == end - 1


def test_the_one_ask_of_a_stage_is_all_of_it() -> None:
    shares = [progress(Stage.PROBE, share / 100).percent for share in range(101)]
    assert shares == sorted(shares)
    assert set(shares) == set(range(STARTS[Stage.PROBE], STARTS[Stage.DIAGNOSE]))


def test_what_was_known_to_come_is_half_of_it() -> None:
    verify = progress(Stage.VERIFY, 6, 6).percent
    assert verify == STARTS[Stage.VERIFY] + (END - STARTS[Stage.VERIFY]) // 2
