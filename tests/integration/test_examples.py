"""The seed cases of examples/: every request posted as it stands, its answer as foretold."""

from __future__ import annotations

import json
import math
import statistics
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from api.schemas.reading import read_analysis, read_options
from examples import make_torchscript
from service.domain.architecture import resolve
from service.domain.findings import Severity
from service.domain.measurements import LayerMeasurements, ParameterStatistics
from service.domain.model_source import ArtifactSource, ModelSource, model_source
from service.domain.report import Report
from service.domain.request import AnalysisRequest, ModelRequest
from service.pipeline import analyse
from service.probing.session import Session
from service.sandbox.limits import Limits
from service.sandbox.prober import ZygoteProber

EXAMPLES = Path(__file__).parents[2] / "examples"
CASES = EXAMPLES / "seed_cases"
EXPECTED: dict[str, Any] = tomllib.loads((CASES / "expected.toml").read_text())

Ask = Callable[[str], Report]


def body(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((CASES / f"{name}.json").read_text())
    return read


def request_of(name: str, folder: Path) -> tuple[AnalysisRequest, ModelSource]:
    """As the API reads it; a TorchScript file is known by its path."""
    file = EXPECTED[name].get("file")
    if file is None:
        request = read_analysis(body(name))
        return request, model_source(request.model, "spec")
    path = str(folder / file)
    request = read_options(body(name)).to_domain(ModelRequest("artifact", artifact_id=path))
    return request, ArtifactSource(path, "torchscript")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the TorchScript files in it."""
    folder = tmp_path_factory.mktemp("torchscript")
    make_torchscript.write(folder)
    return folder


@pytest.fixture(scope="module")
def ask(folder: Path) -> Iterator[Ask]:
    """Each case is analysed once, however many tests look at it."""
    serve, warm_up = "service.probing.child:serve", "service.probing.child:warm_up"
    prober = ZygoteProber(Limits(), serve, warm_up, Path)

    @cache
    def answer(name: str) -> Report:
        return analyse(*request_of(name, folder), prober, lambda _: None)

    yield answer
    prober.close()


def hidden(report: Report) -> tuple[LayerMeasurements, ...]:
    """All layers but the last."""
    return report.layers[:-1]


def gains(layers: tuple[LayerMeasurements, ...]) -> list[float]:
    found = [layer.gradient.gain for layer in layers]
    assert None not in found
    return [gain for gain in found if gain is not None]


def weight(layer: LayerMeasurements) -> ParameterStatistics:
    return max(layer.parameters, key=lambda one: math.prod(one.shape))


def present(number: float | None) -> float:
    assert number is not None
    return number


def first_to_last(report: Report) -> float:
    first, last = (present(weight(hidden(report)[at]).grad_to_weight) for at in (0, -1))
    return first / last


NUMBERS: Mapping[str, Callable[[Report], float]] = {
    "total_gain": lambda r: present(r.model.total_gain),
    "product_of_gains": lambda r: math.prod(gains(r.layers)),
    "product_of_hidden_gains": lambda r: math.prod(gains(hidden(r))),
    "median_gain": lambda r: statistics.median(gains(hidden(r))),
    "largest_gain": lambda r: max(gains(hidden(r))),
    "first_gain": lambda r: gains(r.layers)[0],
    "input_gradient": lambda r: present(r.model.input_grad_norm),
    "first_to_last": first_to_last,
    "zero_fraction": lambda r: statistics.median(
        present(x.activation.zero_fraction) for x in hidden(r)
    ),
    "dead_units": lambda r: max(present(x.activation.dead_unit_fraction) for x in hidden(r)),
    "saturated": lambda r: max(x.activation.saturated_fraction or 0.0 for x in hidden(r)),
    "steps_remembered": lambda r: next(
        one.evidence["remembered"] for one in r.diagnosis.findings if one.code == "fading_memory"
    ),
    "uniform_limit": lambda r: math.sqrt(3.0) * present(weight(r.layers[0]).rms),
}
"""What expected.toml calls them; examples/README.md says what each is."""


@pytest.mark.parametrize("name", EXPECTED)
def test_the_answer_is_as_foretold(ask: Ask, name: str) -> None:
    report, expected = ask(name), EXPECTED[name]
    diagnosis = report.diagnosis
    found = {one.code: str(one.severity) for one in diagnosis.findings}
    if expected["verdict"] != "open":
        assert diagnosis.verdict == expected["verdict"], diagnosis.summary
    assert expected.get("findings", {}).items() <= found.items()
    assert not set(expected.get("absent", ())) & set(found)
    assert (Severity.ERROR in found.values()) == (diagnosis.verdict == "unhealthy")


@pytest.mark.parametrize(
    ("name", "number"),
    [(name, number) for name, case in EXPECTED.items() for number in case.get("numbers", {})],
)
def test_the_numbers_are_as_foretold(ask: Ask, name: str, number: str) -> None:
    expected = EXPECTED[name]["numbers"][number]
    value = NUMBERS[number](ask(name))
    if "is" in expected:
        assert value == pytest.approx(expected["is"], rel=expected["within"])
    else:
        assert expected.get("from", -math.inf) <= value <= expected.get("to", math.inf)


@pytest.mark.parametrize("name", EXPECTED)
def test_advice_stays_within_what_may_change(ask: Ask, name: str, folder: Path) -> None:
    offered = {one.kind for one in ask(name).recommendations}
    assert offered <= set(request_of(name, folder)[0].allowed_changes)
    assert offered >= set(EXPECTED[name].get("advice", ()))


def test_every_request_has_its_expectation_and_its_line_in_the_readme() -> None:
    assert set(EXPECTED) == {path.stem for path in CASES.glob("*.json")}
    readme = (EXAMPLES / "README.md").read_text()
    for name, case in EXPECTED.items():
        codes = ", ".join(f"`{code}`" for code in case.get("findings", {})) or "none"
        line = f"| `{name}` | {case['teaches']} | {case['verdict']} | {codes} |"
        assert line in readme
    assert all(f"| `{number}` |" in readme for number in NUMBERS)


def test_every_request_is_explained() -> None:
    concepts = (EXAMPLES.parent / "docs" / "concepts.md").read_text()
    assert [name for name in EXPECTED if f"`{name}`" not in concepts] == []


def test_clipping_and_normalising_leave_the_profile_as_it_is(ask: Ask) -> None:
    without, by_norm, normalised = (
        ask(f"clipping_{how}") for how in ("none", "by_norm", "normalised")
    )
    for other in (by_norm, normalised):
        assert gains(other.layers) == gains(without.layers)
        assert first_to_last(other) == first_to_last(without)


def test_weight_decay_leaves_the_gradients_of_step_0_as_they_are(ask: Ask) -> None:
    with_decay, without = (ask(name).layers for name in ("l2_weight_decay", "mlp_784_256_128_10"))
    for one, other in zip(with_decay, without, strict=True):
        assert one.gradient == other.gradient
        assert weight(one).grad_norm == weight(other).grad_norm


def test_twice_the_steps_bring_no_gradient_more(ask: Ask) -> None:
    fifty, hundred = (gains(ask(f"rnn_{steps}_steps").layers)[0] for steps in (50, 100))
    assert hundred == pytest.approx(fifty, rel=1e-2)


def test_shortcuts_carry_the_gradient_that_a_plain_stack_loses(ask: Ask) -> None:
    plain, shortcuts = (
        NUMBERS["total_gain"](ask(f"{kind}_34_layers")) for kind in ("plain", "shortcuts")
    )
    assert plain < 1e-10
    assert shortcuts > 1e-2


def slope_of_the_map(x: Tensor) -> Tensor:
    x = x.requires_grad_()
    (slope,) = torch.autograd.grad(make_torchscript.LogisticMap()(x).sum(), x)
    return slope.abs()


def test_the_logistic_map_is_steep_here_and_flat_there(ask: Ask) -> None:
    places = 200_000
    x = (torch.arange(places, dtype=torch.float64) + 0.5) / places
    slope = slope_of_the_map(x.unsqueeze(1))
    assert (slope < 0.1).double().mean().item() == pytest.approx(0.0943, abs=2e-4)
    assert (slope > 10).double().mean().item() == pytest.approx(0.1648, abs=2e-4)
    # The mean of |output - target| passes ±1/B to each of B samples.
    report = ask("logistic_map_uniform")
    expected = slope.square().mean().sqrt().item() / math.sqrt(report.facts.batch_size)
    assert report.model.input_grad_norm == pytest.approx(expected, rel=0.01)


def test_differences_agree_with_the_gradient(ask: Ask) -> None:
    """Along its own direction the slope of the loss is the gradient's norm, which the answer
    tells. (f(θ+ε) - f(θ-ε))/2ε misses it by O(ε²), (f(θ+ε) - f(θ))/ε by O(ε)."""
    request = read_analysis(body("gradient_check"))
    session = Session.open(request.probe, resolve(request.model.spec or {}), None)
    told = present(ask("gradient_check").model.grad_norm.p50)
    batch = session.batch(0, 0)
    parameters = list(session.parameters.values())
    start = [value.detach().clone() for value in parameters]

    def loss() -> Tensor:
        output = session.forward(*batch.inputs)
        return session.loss.compute(output, batch.target(output, session.loss))

    gradient = torch.autograd.grad(loss(), parameters)

    @torch.no_grad()
    def moved(step: float) -> float:
        for value, origin, slope in zip(parameters, start, gradient, strict=True):
            value.copy_(origin + step / told * slope)
        return loss().item()

    steps = [2.0**-power for power in range(6, 11)]
    two_sided = [abs((moved(e) - moved(-e)) / (2 * e) - told) for e in steps]
    one_sided = [abs((moved(e) - moved(0.0)) / e - told) for e in steps]
    assert two_sided[-1] < 1e-5 * told
    assert order(steps, two_sided) == pytest.approx(2.0, abs=0.1)
    assert order(steps, one_sided) == pytest.approx(1.0, abs=0.1)


def order(steps: list[float], errors: list[float]) -> float:
    """The slope of log error over log step."""
    logs = [[math.log(one) for one in line] for line in (steps, errors)]
    return statistics.linear_regression(*logs).slope
