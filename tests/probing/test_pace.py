"""What is told of an ask while it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from service.domain.architecture import resolve
from service.domain.errors import ChangeRefused
from service.domain.probe_plan import OptimizerPlan, ProbePlan
from service.probe_protocol import UNDERWAY_FRAMES
from service.probing import pace
from service.probing.pace import Pace
from service.probing.session import Session

SPEC: dict[str, Any] = {
    "input": {"shape": [4]},
    "layers": [
        {"name": "fc", "type": "Linear", "args": {"out_features": 4}},
        {"name": "act", "type": "ReLU"},
        {"name": "head", "type": "Linear", "args": {"out_features": 3}},
    ],
}
PLAN = ProbePlan(batch_size=4, batches=4, seeds=3, trial_steps=8)
WIDER: tuple[Mapping[str, Any], ...] = (
    {"kind": "activation", "layers": ["fc"], "activation": "Tanh"},
)


class Clock:
    """A step takes so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now = seconds, 0.0

    def __call__(self) -> float:
        self.now += self.seconds
        return self.now


def told_of(steps: int, seconds: float, *, asked: int, perhaps_more: bool = False) -> list[float]:
    told: list[float] = []
    counted = Pace(told.append, Clock(seconds))
    counted.begin(asked, perhaps_more=perhaps_more)
    for _ in range(steps):
        counted.step()
    return told


def test_every_slow_step_is_told() -> None:
    assert told_of(4, 1.0, asked=4) == [0.25, 0.5, 0.75, 1.0]


def test_an_ask_is_given_up_when_its_time_is_over() -> None:
    limited = Pace(clock=Clock(1.0))
    with limited.within(2.5):
        limited.begin(2)
        limited.step()
        with limited.within(None), pytest.raises(ChangeRefused, match="time was over"):
            limited.step()
    limited.begin(1)
    limited.step()
    assert limited.left() is None


def test_quick_steps_are_told_together() -> None:
    told = told_of(100, pace.TELL_SECONDS / 9, asked=100)
    assert 8 <= len(told) <= 12
    assert told == sorted(told)


@pytest.mark.parametrize("steps", [100, 101, 4999])
@pytest.mark.parametrize("perhaps_more", [True, False])
def test_never_oftener_than_the_wall_allows(steps: int, perhaps_more: bool) -> None:
    told = told_of(3 * steps, 1.0, asked=steps, perhaps_more=perhaps_more)
    assert 40 < len(told) <= UNDERWAY_FRAMES
    assert told == sorted(set(told))
    assert told[-1] <= 1.0


def test_what_may_become_more_is_half_done_by_then() -> None:
    assert told_of(4, 1.0, asked=4, perhaps_more=True)[-1] == 0.5


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "TELL_SECONDS", 0.0)


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("changes", [(), WIDER])
def test_a_probe_tells_of_every_batch_also_of_a_changed_model(
    changes: tuple[Mapping[str, Any], ...],
) -> None:
    session, told = _followed(PLAN)
    session.measure(changes)
    assert told == pytest.approx([number / 12 for number in range(1, 13)])
    told.clear()
    session.measure(changes, after_steps=2)
    assert told == pytest.approx([number / 18 for number in range(1, 19)])


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("changes", [(), WIDER])
def test_float32_beside_16_bits_is_told_too(changes: tuple[Mapping[str, Any], ...]) -> None:
    session, told = _followed(replace(PLAN, precision="bfloat16"))
    session.measure(changes)
    assert told == pytest.approx([number / 24 for number in range(1, 25)])
    told.clear()
    session.measure(changes)  # float32 is known
    assert told == pytest.approx([number / 12 for number in range(1, 13)])


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize(("scale", "passes"), [(1.0, 12), (1e-7, 18)])
def test_a_look_at_float16_with_a_loss_scale_is_told_where_one_is_needed(
    scale: float, passes: int
) -> None:
    head = {**SPEC["layers"][-1], "init": {"weight": {"name": "normal_", "args": {"std": scale}}}}
    spec = {**SPEC, "layers": [*SPEC["layers"][:-1], head]}
    plan = replace(PLAN, precision="float16", batches=2)
    told: list[float] = []
    session = Session.open(plan, resolve(spec), None, pace=Pace(told.append))
    session.measure()
    assert told == pytest.approx([number / 18 for number in range(1, passes + 1)])


@pytest.mark.usefixtures("every_step")
def test_a_short_training_tells_of_every_step() -> None:
    session, told = _followed(
        ProbePlan(batch_size=4, trial_steps=8, optimizer=OptimizerPlan("adam", 1e-9))
    )
    (run,) = session.trial().runs
    assert told == pytest.approx([step / (step + 8) for step in range(1, len(run.loss) + 1)])


def _followed(plan: ProbePlan) -> tuple[Session, list[float]]:
    told: list[float] = []
    return Session.open(plan, resolve(SPEC), None, pace=Pace(told.append)), told
