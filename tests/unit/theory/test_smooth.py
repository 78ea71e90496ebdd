"""Interpolated functions are the functions themselves, but for what nobody sees."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.theory.moments import (
    mean,
    mean_fourth_derivative,
    mean_square,
    mean_square_derivative,
    mean_square_slope,
)
from service.theory.nonlinearities import Nonlinearity, covered, nonlinearity
from service.theory.propagation import chi_1, next_variance
from service.theory.smooth import Smooth

MOMENTS = (mean, mean_square, mean_square_derivative, mean_fourth_derivative, mean_square_slope)


def known(name: str) -> Nonlinearity:
    phi = nonlinearity(name)
    assert phi is not None
    return phi


@pytest.mark.parametrize("name", covered())
@given(q=st.floats(1e-6, 1e6))
def test_a_step_of_the_recursion_is_interpolated(name: str, q: float) -> None:
    phi = known(name)

    def step(q: float) -> tuple[float, float]:
        return next_variance(phi, q, 1.5, 0.1), chi_1(phi, q, 1.5)

    for found, expected in zip(Smooth(step)(q), step(q), strict=True):
        assert found == pytest.approx(expected, rel=2e-4, abs=1e-12)


def test_few_places_are_asked_for() -> None:
    asked = []

    def f(q: float) -> tuple[float]:
        asked.append(q)
        return (q**2,)

    smooth = Smooth(f)
    assert all(
        smooth(1.0 + n * 1e-4)[0] == pytest.approx((1.0 + n * 1e-4) ** 2) for n in range(900)
    )
    assert len(asked) <= 10


def test_nothing_is_made_up_beside_zeros() -> None:
    smooth = Smooth(lambda q: (1.0 if q > 1.0 else 0.0, q))
    assert smooth(1.01) == (1.0, 1.01)
    assert smooth(0.99) == (0.0, 0.99)
    assert smooth(0.0) == (0.0, 0.0)


HOMOGENEOUS = [name for name in covered() if known(name).homogeneous]


def test_all_that_are_homogeneous_say_so() -> None:
    """But threshold, which is where its arguments are 0."""

    def scales(phi: Nonlinearity) -> bool:
        return all(
            math.isclose(phi.value(a * x), a * phi.value(x), rel_tol=1e-12)
            for a in (0.1, 7.0)
            for x in (-3.0, -0.2, 0.4, 5.0)
        )

    found = [name for name in covered() if scales(known(name))]
    assert [name for name in found if name != "threshold"] == HOMOGENEOUS


@pytest.mark.parametrize("name", HOMOGENEOUS)
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda one: str(one.__name__))
@given(q=st.floats(1e-3, 1e3))
def test_their_moments_follow_from_one(name: str, moment: object, q: float) -> None:
    """Against the same function that does not say so, which is integrated."""
    phi = known(name)
    plain = Nonlinearity(
        name, phi.value, phi.derivative, phi.kinks, phi.continuous, phi.square,
        phi.square_derivative,
    )  # fmt: skip
    assert callable(moment)
    assert moment(phi, q) == pytest.approx(moment(plain, q), rel=1e-9)
