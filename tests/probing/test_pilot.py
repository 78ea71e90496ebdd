"""What a pass is taken to cost, on a machine that is cold, or busy with others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain, repeat

import pytest
import torch

from service.domain.architecture import Architecture, resolve
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing import pilot
from service.probing.budget import COLD, PILOT_SHARE, RUNS, SIZES, MicroBatch, fit
from service.probing.feed import Feed
from service.probing.loaders.loaded import LoadedModel, loaded
from service.probing.opening import Sent, opened
from service.probing.pilot import timed
from service.probing.session import Session
from service.probing.trace import Recording


class Machine:
    """Runs passes on a clock of its own."""

    def __init__(
        self, seconds: Callable[[int], float], held_up: Iterable[float] = (), *, cold: float = 1.0
    ) -> None:
        """`seconds` of a pass by its samples; each takes so many times as long as `held_up` says,
        and the first of a size `cold` times."""
        self.seconds = seconds
        self.cold = cold
        self.held_up = chain(held_up, repeat(1.0))
        self.now = 100.0
        self.ran: list[int] = []

    def clock(self) -> float:
        return self.now

    def run(self, samples: int) -> None:
        warm = samples in self.ran
        self.ran.append(samples)
        self.now += self.seconds(samples) * next(self.held_up) * (1.0 if warm else self.cold)

    def estimate(self, plan: ProbePlan, sizes: tuple[int, ...] = SIZES) -> MicroBatch:
        return MicroBatch(*timed(plan, self.run, sizes, self.clock), 1.0, 1)


def wide(samples: int) -> float:
    """An MLP of 20 × 1536: its time is that of reading the weights."""
    return 0.12 + 0.002 * samples


def test_a_cold_first_pass_cuts_nothing() -> None:
    machine = Machine(wide, cold=5.0)
    plan = ProbePlan(budget_seconds=200.0)
    assert fit(plan, machine.estimate(plan), None).notes == ()


@pytest.mark.parametrize("held_up", [(4.5, 4.0, 1.0), (1.0, 6.0, 6.0), (3.0, 1.0, 1.0, 4.0, 2.0)])
def test_passes_that_are_held_up_do_not_count(held_up: tuple[float, ...]) -> None:
    """Something is cut, so no size is passed over, and the estimate is right all the same."""
    plan = ProbePlan(budget_seconds=30.0, batches=10)
    micro = Machine(wide, held_up).estimate(plan)
    assert micro.pass_seconds(64) == pytest.approx(wide(64))
    assert fit(plan, micro, None).notes


def test_what_fits_by_the_first_pass_is_measured_once() -> None:
    machine = Machine(lambda samples: 1e-5 * samples, cold=10.0)
    plan = ProbePlan()
    assert fit(plan, machine.estimate(plan), None).notes == ()
    assert machine.ran == [SIZES[0]]


def test_what_is_bound_by_arithmetic_is_proportional() -> None:
    machine = Machine(lambda samples: 0.1 * samples)
    plan = ProbePlan()
    micro = machine.estimate(plan)
    assert micro.pass_seconds(64) == pytest.approx(6.4)
    assert fit(plan, micro, None).notes[0].startswith("budget: batches 4 → ")


@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.8, 2.0, 5.9, 11.0, 30.0])
def test_the_pilot_keeps_to_its_share_of_the_budget(seconds: float) -> None:
    machine = Machine(lambda samples: seconds * samples / SIZES[0])
    plan = ProbePlan()
    machine.estimate(plan)
    share = plan.budget_seconds * PILOT_SHARE
    # The first may be cold; one more is begun in the hope that it was.
    assert machine.now - 100.0 <= seconds + share + seconds * (1.0 - COLD)
    assert machine.ran.count(SIZES[0]) <= RUNS
    if seconds > share / COLD:
        assert machine.ran == [SIZES[0]]


def test_larger_sizes_show_that_a_pass_is_not_proportional() -> None:
    machine = Machine(lambda samples: 0.3 + 0.001 * samples)
    micro = machine.estimate(ProbePlan())
    assert set(machine.ran) == set(SIZES)
    assert micro.pass_seconds(64) == pytest.approx(0.364)


def test_the_one_size_that_a_model_takes_is_all_there_is() -> None:
    machine = Machine(lambda _: 3.0, cold=2.0)
    micro = machine.estimate(ProbePlan(budget_seconds=100.0, batch_size=32), (32,))
    assert set(machine.ran) == {32}
    assert micro.pass_seconds(32) == pytest.approx(3.0)


@pytest.mark.parametrize(("memory_mb", "tried"), [(None, {2, 8, 32}), (2, {2, 8}), (1, {2})])
def test_no_size_is_tried_that_does_not_fit_the_memory(
    memory_mb: int | None, tried: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = set()
    monkeypatch.setattr(pilot, "_pass", lambda *rest: ran.add(rest[-1]))
    monkeypatch.setattr(pilot, "affords", lambda *_: False)
    layers = [{"type": "Linear", "args": {"out_features": 4096}}, {"type": "Tanh"}]
    architecture = resolve({"input": {"shape": [4]}, "layers": layers})
    found = opened(ProbePlan(), Sent(architecture, None))
    pilot.micro_batch(found.model, Feed(found.plan, torch.float32, None), memory_mb)
    assert ran == tried


def test_a_real_wide_network_with_a_cold_start_is_probed_in_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first pass sleeps, as one does whose pages are not there yet."""
    true_pass = pilot._pass
    slept: list[bool] = []

    def cold_pass(model: LoadedModel, *rest: object) -> None:
        if not slept:
            slept.append(True)
            time.sleep(1.0)
        true_pass(model, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(pilot, "_pass", cold_pass)
    layers = [{"type": "Linear", "args": {"out_features": 256}}, {"type": "Tanh"}] * 4
    spec = {"input": {"shape": [256]}, "layers": layers}
    plan = ProbePlan(budget_seconds=40.0)
    session = Session.open(plan, resolve(spec), None)
    assert slept
    assert session.cuts == ()
    assert replace(session.plan, inputs=()) == plan


def perceptron(width: int) -> Architecture:
    layers = [{"type": "Linear", "args": {"out_features": width}}, {"type": "Tanh"}] * 3
    return resolve({"input": {"shape": [width]}, "layers": layers})


@pytest.mark.parametrize(
    ("width", "plan", "memory_mb", "sizes"),
    [
        (32, ProbePlan(), None, [64]),
        (32, ProbePlan(batch_size=7), None, [7]),
        (32, ProbePlan(), 1024, [64]),
        (32, ProbePlan(), 1, [2, 2, 64]),  # it comes near the memory, and is foreseen
        (2048, ProbePlan(batch_size=8), None, [2, 8]),  # it takes its time
        (32, ProbePlan(precision="pure_bfloat16", batch_size=7), None, [2, 2, 7, 7]),
    ],
)
def test_a_small_spec_is_recorded_once(
    width: int,
    plan: ProbePlan,
    memory_mb: int | None,
    sizes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded = []
    true_record = LoadedModel.record

    def record(self: LoadedModel, inputs: tuple[torch.Tensor, ...]) -> Recording:
        recorded.append(len(inputs[0]))
        return true_record(self, inputs)

    monkeypatch.setattr(LoadedModel, "record", record)
    Session.open(plan, perceptron(width), None, memory_mb=memory_mb)
    assert recorded == sizes


def test_a_file_is_recorded_with_the_batch_that_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its path may depend on the data, even where the size that was tried is the batch's own."""
    given = []
    true_record = LoadedModel.record

    def record(self: LoadedModel, inputs: tuple[torch.Tensor, ...]) -> Recording:
        given.append(inputs[0].clone())
        return true_record(self, inputs)

    monkeypatch.setattr(LoadedModel, "record", record)
    model = loaded("torchscript", torch.nn.Linear(3, 2), mode="train", dtype=torch.float32)
    plan = ProbePlan(inputs=(InputPlan((3,)),), batch_size=SIZES[0])
    session = Session(model, plan)
    assert torch.equal(given[-1], session.batch(0, 0).inputs[0])


def test_a_decoder_is_as_large_as_what_it_gives() -> None:
    layers = [
        {"type": "Upsample", "args": {"scale_factor": 64}},
        {"type": "Conv2d", "args": {"out_channels": 16, "kernel_size": 3}},
    ]
    assert not is_small({"input": {"shape": [16, 1, 1]}, "layers": layers})
    assert is_small({"input": {"shape": [16, 3, 3]}, "layers": layers[1:]})


def is_small(spec: dict[str, object]) -> bool:
    return opened(ProbePlan(), Sent(resolve(spec), None)).small


def test_what_a_small_spec_shows_does_not_depend_on_how_it_was_tried() -> None:
    plan = ProbePlan(trial_steps=0)
    told = [repr(Session.open(plan, perceptron(32), None).measure())]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.probing.opening.SMALL", 0)
        told.append(repr(Session.open(plan, perceptron(32), None).measure()))
    assert told[0] == told[1]
