"""The theory against a table computed independently (tests/cases/signal_propagation.csv)."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from service.theory.moments import mean_square_derivative
from service.theory.nonlinearities import Nonlinearity, nonlinearity
from service.theory.propagation import (
    chi_1,
    correlation,
    depth_scale,
    fixed_point,
    gradient_profile,
    next_variance,
)

TABLE = Path(__file__).parents[2] / "cases" / "signal_propagation.csv"
ITERATIONS_GIVEN_UP = 200_000
"""The table iterates q at most so often: such a row holds the last iterate, not the fixed point."""
DIVERGED = 1e8
"""Where the table calls q infinite and reads off its χ₁."""


def rows() -> list[dict[str, str]]:
    with TABLE.open(newline="") as table:
        return list(csv.DictReader(table))


def phi_of(row: dict[str, str]) -> Nonlinearity:
    name = {"linear": None, "leaky_relu_0.01": "leaky_relu"}.get(row["act"], row["act"])
    phi = nonlinearity(name)
    assert phi is not None
    return phi


MARGINAL = 1e-3
"""Distance of χ₁ from 1 within which the table's iteration of c crawls and holds an iterate."""


def close(value: float) -> object:
    return pytest.approx(value, rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row['act']}-{row['init']}")
def test_table(row: dict[str, str]) -> None:
    phi = phi_of(row)
    weight, bias, q = float(row["sw2"]), float(row["sb2"]), float(row["qstar"])
    assert weight * mean_square_derivative(phi, 1.0) == close(float(row["chi1_q1"]))
    if int(row["iters"]) < ITERATIONS_GIVEN_UP:
        assert fixed_point(phi, weight, bias) == close(q)
    else:
        assert next_variance(phi, q, weight, bias) == close(q)
    at = min(max(q, 1e-12), DIVERGED)
    chi = chi_1(phi, at, weight)
    assert chi == close(float(row["chi1"]))
    assert math.sqrt(chi) == close(float(row["ratio"]))
    if abs(chi - 1) > 1e-3:
        assert depth_scale(chi) == close(float(row["xi_grad"]))
    gains = gradient_profile(phi, weight * 1.0 + bias, weight, bias, 19)  # from unit inputs
    assert math.prod(gains) == pytest.approx(float(row["tot20"]), rel=1e-4)
    assert math.prod(gains) ** (1 / 19) == close(float(row["gm20"]))


def settled(row: dict[str, str]) -> bool:
    return row["cstar"] != "nan" and abs(float(row["chi1"]) - 1) > MARGINAL


@pytest.mark.parametrize(
    "row", [row for row in rows() if settled(row)], ids=lambda row: f"{row['act']}-{row['init']}"
)
def test_correlation(row: dict[str, str]) -> None:
    found = correlation(phi_of(row), float(row["qstar"]), float(row["sw2"]), float(row["sb2"]))
    assert found.fixed_point == pytest.approx(float(row["cstar"]), rel=1e-4, abs=1e-6)
    assert found.depth_scale == close(float(row["xi_c"]))


def test_most_of_the_table_has_a_settled_correlation() -> None:
    assert sum(settled(row) for row in rows()) >= 25
    assert sum(settled(row) and float(row["cstar"]) < 0.99 for row in rows()) == 6
