"""The simulation of a day against what queueing theory knows in closed form."""

from __future__ import annotations

import random

import pytest

from benchmarks import scale


@pytest.fixture
def exponential(monkeypatch: pytest.MonkeyPatch) -> None:
    """Service of one second on average, and no swing: M/M/c."""
    monkeypatch.setattr(scale, "MIX", ((1.0, 1.0),))
    monkeypatch.setattr(scale, "SWING", 0.0)


@pytest.mark.usefixtures("exponential")
@pytest.mark.parametrize(
    ("rate", "workers", "waits"),
    # Erlang C: the share that waits; of one server it is its utilization.
    [(0.5, 1, 0.5), (1.0, 2, 1 / 3), (1.5, 2, 9 / 14)],
)
def test_as_many_wait_as_erlang_says(rate: float, workers: int, waits: float) -> None:
    found = scale.simulate(rate * scale.DAY, workers, 40_000, seed=1)
    assert found.busy == pytest.approx(rate / workers, rel=0.03)
    assert found.waited == pytest.approx(waits, rel=0.06)


@pytest.mark.usefixtures("exponential")
def test_the_99th_percentile_of_one_server_is_that_of_m_m_1() -> None:
    # P(wait > t) = ρ·exp(−(1 − ρ)t), here 0.01 at t = ln 50 / 0.5.
    found = scale.simulate(0.5 * scale.DAY, 1, 80_000, seed=2)
    assert found.p99 == pytest.approx(7.82, rel=0.12)


def test_a_day_swings_around_its_mean() -> None:
    times = list(scale.arrivals(10_000, scale.DAY, random.Random(0)))
    assert len(times) == pytest.approx(10_000, rel=0.03)
    third = scale.DAY / 3
    busiest = sum(third < at < 2 * third for at in times)
    # ∫ (1 + 0.6·cos) over the middle third: 1/3 + 0.6·√3/(2π) of the day.
    assert busiest / len(times) == pytest.approx(1 / 3 + scale.SWING * 0.2757, rel=0.05)


def test_enough_is_enough_and_one_less_is_not() -> None:
    workers, found = scale.enough(200_000, 7200)
    assert found.p99 <= scale.TARGET_SECONDS
    assert scale.simulate(200_000, workers - 1, 7200, 0).p99 > scale.TARGET_SECONDS
