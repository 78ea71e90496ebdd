"""An analysis for people, at 80 columns."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from graddx.cli.flow import flow_lines
from graddx.cli.human import print_diagnosis, print_failure, told_layers
from graddx.errors import AnalysisFailed
from graddx.results import (
    Analysis,
    Diagnosis,
    Effect,
    Failure,
    Finding,
    LayerAfter,
    Prescription,
    Recommendation,
)
from graddx.statistics import Gradient, Layer

ADDRESS = "http://graddx.example.org/v1/analyses/01a1f918-0d07-783d-9f57-1233e168effe"
LAYERS = tuple(f"encoder.layers.{index}.linear" for index in range(40))
FINDING = Finding(
    "vanishing_gradient",
    "error",
    0.99,
    LAYERS,
    "Gradients vanish",
    "The first layer receives 3.1e-11 of the gradient at the last. " * 3,
    causes=("sigmoid at encoder.layers.0 passes 0.19x.", "and so do 39 more."),
    docs="/guide/detectors.html#vanishing_gradient",
)
CODE = "for name in ('a', 'b'):\n    nn.init.zeros_(model.get_submodule(name).bias)  " + "#" * 60
SICK = Diagnosis(
    "unhealthy",
    0.987,
    "static",
    "Gradients vanish over 40 layers.",
    suppressed=(replace(FINDING, code="dead_units", layers=("stem",), reason="by design"),),
    findings=(FINDING, replace(FINDING, severity="warning", code="rank_collapse", layers=())),
    recommendations=(
        Recommendation(
            "r1",
            "initializer",
            LAYERS[:2],
            "Draw other weights",
            "These keep the scale.",
            ("vanishing_gradient",),
            code=CODE,
            effect=Effect(True, resolved=("vanishing_gradient",), introduced=("dead_units",)),
        ),
        Recommendation("r2", "clipping", title="Clip", why="Good practice.", code="clip()"),
    ),
    prescription=Prescription(
        ("r1", "r2"),
        "healthy",
        {"before": {"loss": [2.31, 2.3]}, "after": {"loss": [2.3, 0.02]}},
    ),
)
ANALYSIS = Analysis(
    "a1", "succeeded", passed=False, notes=("The batch was cut to 16.",), diagnosis=SICK
)


def shown(analysis: Analysis, **console: object) -> str:
    out = io.StringIO()
    settings = {"width": 80, "highlight": False, **console}
    print_diagnosis(Console(file=out, **settings), "net.pt", analysis, ADDRESS)  # type: ignore[arg-type]
    return out.getvalue()


def test_the_verdict_comes_first() -> None:
    first, second, third, *_ = shown(ANALYSIS).splitlines()
    assert first == "UNHEALTHY  Gradients vanish over 40 layers."
    assert second == "net.pt does not pass: 1 error, 1 warning. Confidence 0.99."
    assert third == ADDRESS


def layers(*norms: float | None) -> tuple[Layer, ...]:
    return tuple(
        Layer(index, f"fc{index}", gradient=Gradient(norm=norm)) for index, norm in enumerate(norms)
    )


def cured(*norms: float | None) -> Prescription:
    after = tuple(LayerAfter(f"fc{index}", norm) for index, norm in enumerate(norms))
    return Prescription(("r1",), "healthy", layers_after=after)


def flow(diagnosis: Diagnosis, width: int = 60, *, plain: bool = False) -> list[str]:
    return [f"{one.bars} {one.ends}" for one in flow_lines(diagnosis, width, plain=plain)]


def test_the_whole_of_it_looks_like_this() -> None:
    norms = tuple(10.0 ** -(2 * (19 - index)) for index in range(20))
    diagnosis = replace(SICK, layers=layers(*norms), prescription=cured(*[2.0] * 20))
    text = shown(replace(ANALYSIS, diagnosis=diagnosis))
    told = [line.rstrip() for line in text.splitlines()]
    assert told == (Path(__file__).parent / "human.txt").read_text(encoding="utf-8").splitlines()


def test_the_flow_is_relative_to_the_last_layer_and_on_one_scale() -> None:
    sick = Diagnosis("unhealthy", layers=layers(1e-7, 1e-3, 10), prescription=cured(5, 5, 5))
    assert flow(sick) == ["▁▁▁▅▅▅███ 1e-08 … 1", "█████████ 1 … 1"]
    assert flow(sick, plain=True) == ["___===### 1e-08 … 1", "######### 1 … 1"]


def test_what_is_nothing_is_no_small_block() -> None:
    assert flow(Diagnosis("unhealthy", layers=layers(0.0, None, 1e-9, 1.0)), 4) == ["··▁█ 0 … 1"]


def test_many_layers_share_columns_and_no_gap_is_lost() -> None:
    norms = [1.0] * 1000
    norms[500] = 1e-12
    (bars, *_) = flow(Diagnosis("unhealthy", layers=layers(*norms)), 40)[0].split(" ")
    assert (len(bars), bars.count("▁"), bars[20]) == (40, 1, "▁")


def test_a_flat_flow_looks_flat() -> None:
    (line,) = flow(Diagnosis("healthy", layers=layers(0.9, 1.1, 1.0, 1.0)), 4)
    assert set(line.split(" ")[0]) <= {"▇", "█"}


@pytest.mark.parametrize("norms", [(), (1.0,), (0.0, 0.0), (None, None)])
def test_without_a_flow_nothing_is_drawn(norms: tuple[float | None, ...]) -> None:
    diagnosis = Diagnosis("unhealthy", summary="It.", layers=layers(*norms))
    assert flow(diagnosis) == []
    assert "over depth" not in shown(replace(ANALYSIS, diagnosis=diagnosis))


def test_a_terminal_without_unicode_gets_none() -> None:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii", errors="replace"), width=80)
    diagnosis = Diagnosis("unhealthy", summary="It.", layers=layers(1e-3, 1.0))
    print_diagnosis(console, "net.pt", replace(ANALYSIS, diagnosis=diagnosis, notes=()), ADDRESS)
    console.file.flush()
    assert b"___###" in raw.getvalue()


def test_everything_is_told_in_order() -> None:
    text = shown(ANALYSIS)
    told = [
        "Findings",
        "error  Gradients vanish (vanishing_gradient)",
        "encoder.layers.2.linear … encoder.layers.39.linear (40",
        "because  sigmoid at encoder.layers.0 passes 0.19x.",
        "and so do 39 more.",
        "see      http://graddx.example.org/guide/detectors.html#vanishing_gradient",
        "warning  Gradients vanish (rank_collapse)",
        "the whole model",
        "Ignored",
        "dead_units at stem: by design",
        "Notes",
        "The batch was cut to 16.",
        "Recommendations",
        "r1  Draw other weights (initializer)",
        "These keep the scale.",
        "for     vanishing_gradient",
        "tried   resolves vanishing_gradient; brings dead_units",
        "Enough: r1 and r2, measured: healthy afterwards",
        "before 2.31 → 2.3, after 2.3 → 0.02.",
        "Code to paste",
        "# r1: Draw other weights",
        CODE,
        "# r2: Clip",
        "clip()",
    ]
    places = [text.find(one) for one in told]
    assert -1 not in places, told[places.index(-1)]
    assert places == sorted(places)


def test_eighty_columns_but_for_what_is_copied() -> None:
    copied = [ADDRESS, *CODE.splitlines()]
    long = [line for line in shown(ANALYSIS).splitlines() if len(line.rstrip()) > 80]
    assert set(long) <= set(copied)


def test_code_stands_at_the_margin_and_runs() -> None:
    text = shown(ANALYSIS)
    code = text[text.index("# r1") : text.index("# r2")]
    compile(code, "pasted", "exec")


def test_a_healthy_model_is_short() -> None:
    diagnosis = Diagnosis("healthy", 0.99, "static", "This trains.")
    text = shown(Analysis("a1", "succeeded", passed=True, diagnosis=diagnosis))
    assert text.splitlines() == [
        "HEALTHY  This trains.",
        "net.pt passes: no findings. Confidence 0.99.",
        ADDRESS,
    ]


def test_no_verdict_is_no_pass() -> None:
    diagnosis = Diagnosis("inconclusive", None, "", "It cannot be told.")
    text = shown(Analysis("a1", "succeeded", passed=False, diagnosis=diagnosis))
    assert "net.pt does not pass: no verdict." in text


def test_a_failure_is_not_a_pass() -> None:
    failure = Failure("model_raised", "The model raised an error", "ValueError: boom")
    analysis = Analysis("a1", "failed", error=failure)
    out = io.StringIO()
    print_failure(Console(file=out, width=80), "net.pt", AnalysisFailed(analysis), ADDRESS)
    assert out.getvalue().splitlines() == [
        "FAILED  The model raised an error (model_raised)",
        "Nothing is known about net.pt: this is not a pass.",
        ADDRESS,
        "",
        "ValueError: boom",
    ]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, ""),
        (1, "l0"),
        (6, "l0, l1, l2, l3, l4, l5"),
        (7, "l0, l1, l2 … l6 (7 layers)"),
    ],
)
def test_layers_that_are_not_told_are_counted(count: int, expected: str) -> None:
    assert told_layers([f"l{index}" for index in range(count)]) == expected


def test_names_of_other_people_cannot_move_the_cursor() -> None:
    evil = "fc\x1b[2J\x1b]0;title\x07\r[red]not markup[/]"
    finding = replace(FINDING, layers=(evil,), title=evil, detail=evil, causes=(evil,))
    diagnosis = replace(SICK, findings=(finding,), summary=evil)
    text = shown(replace(ANALYSIS, diagnosis=diagnosis))
    assert not {"\x1b", "\x07", "\r"} & set(text)
    assert "[red]not markup[/]" in text


def test_colours_only_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;31mUNHEALTHY" in shown(ANALYSIS, force_terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "31m" not in shown(ANALYSIS, force_terminal=True)
    assert "\x1b" not in shown(ANALYSIS)
