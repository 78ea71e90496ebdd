"""What is cut when time or memory is short, in which order, and what is said about it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import ProbeOutOfMemory
from service.domain.memory import COPIES, HELD, MIB
from service.domain.probe_plan import ProbePlan
from service.probing.budget import (
    FEWEST_STEPS,
    PROBE_SHARE,
    TRIAL_RUNS,
    WATCHING,
    MicroBatch,
    affords,
    fit,
)


def micro(seconds_a_sample: float, fixed: float = 0.0) -> MicroBatch:
    return MicroBatch(fixed, seconds_a_sample, 1000.0, 4000)


def test_a_fast_model_is_probed_in_full() -> None:
    fitted = fit(ProbePlan(), micro(1e-5), 4096)
    assert (fitted.plan, fitted.batch_size, fitted.notes) == (ProbePlan(), 64, ())


def test_the_order_of_the_cuts() -> None:
    sizes = []
    for seconds in (0.01, 0.03, 0.05, 0.2, 1.0, 3.0, 100.0):
        fitted = fit(ProbePlan(), micro(seconds), None)
        sizes.append((fitted.plan.batches, fitted.plan.seeds, fitted.batch_size))
    assert sizes == [
        (4, 3, 64),
        (2, 3, 64),
        (2, 2, 64),
        (2, 2, 16),
        (1, 2, 8),
        (1, 1, 4),
        (1, 1, 2),
    ]


def test_a_batch_size_that_was_asked_for_is_kept() -> None:
    fitted = fit(ProbePlan(batch_size=32), micro(10.0), None)
    assert fitted.batch_size == 32
    assert (fitted.plan.batches, fitted.plan.seeds) == (1, 1)


def test_too_few_steps_are_none() -> None:
    steps = [fit(ProbePlan(batch_size=1), micro(s), None).plan.trial_steps for s in (0.01, 0.2, 1)]
    assert steps[0] == 100
    assert FEWEST_STEPS <= steps[1] < 100
    assert steps[2] == 0


@given(
    st.floats(1e-6, 1e3), st.floats(0, 10), st.integers(1, 8), st.integers(1, 5),
    st.one_of(st.none(), st.integers(1, 64)), st.floats(0.1, 600),
)  # fmt: skip
def test_what_is_kept_fits_or_is_the_least(
    sample: float, fixed: float, batches: int, seeds: int, batch_size: int | None, budget: float
) -> None:
    plan = ProbePlan(batches=batches, seeds=seeds, batch_size=batch_size, budget_seconds=budget)
    cost = micro(sample, fixed)
    fitted = fit(plan, cost, None)
    kept = fitted.plan
    one_pass = cost.pass_seconds(fitted.batch_size)
    in_time = kept.batches * kept.seeds * WATCHING * one_pass <= budget * PROBE_SHARE
    least = kept.batches == kept.seeds == 1 and (batch_size or fitted.batch_size == 2)
    assert in_time or least
    assert kept.trial_steps * TRIAL_RUNS * one_pass <= budget * (1 - PROBE_SHARE) + 1e-9
    cut = (kept.batches, kept.seeds, fitted.batch_size, kept.trial_steps) != (
        batches, seeds, batch_size or 64, plan.trial_steps,
    )  # fmt: skip
    assert bool(fitted.notes) == cut


def test_memory_bounds_the_automatic_batch() -> None:
    needs = MicroBatch(0.0, 1e-6, sample_bytes=10 * MIB, parameter_bytes=100 * MIB)
    room = COPIES * 100 + HELD * 10 * 20
    fitted = fit(ProbePlan(), needs, int(room))
    assert fitted.batch_size == 16
    assert fitted.notes == (f"memory: batch_size 64 → 16 fits {int(room)} MiB",)


def test_what_cannot_fit_is_refused_with_the_estimate() -> None:
    needs = MicroBatch(0.0, 1e-6, sample_bytes=10 * MIB, parameter_bytes=100 * MIB)
    with pytest.raises(ProbeOutOfMemory, match=r"needs about 530 MiB and 500 MiB are allowed"):
        fit(ProbePlan(), needs, 500)
    with pytest.raises(ProbeOutOfMemory, match="batch_size 64 needs about"):
        fit(ProbePlan(batch_size=64), needs, 1000)


@given(
    st.floats(1e-6, 1e3), st.floats(0, 10), st.integers(1, 8), st.integers(1, 5),
    st.one_of(st.none(), st.integers(1, 64)), st.floats(0.1, 600),
)  # fmt: skip
def test_what_the_plan_affords_is_not_cut_and_the_other_way_round(
    sample: float, fixed: float, batches: int, seeds: int, batch_size: int | None, budget: float
) -> None:
    plan = ProbePlan(batches=batches, seeds=seeds, batch_size=batch_size, budget_seconds=budget)
    assert affords(plan, fixed, sample) is not bool(fit(plan, micro(sample, fixed), None).notes)
