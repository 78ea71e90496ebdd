"""`graddx check` as a program, against the real server: exit codes, and what goes where."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
GRADDX = Path(sys.executable).with_name("graddx")
SICK = ROOT / "examples" / "vanishing_sigmoid_mlp.json"
HEALTHY = ROOT / "examples" / "healthy_mlp.json"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(server: str) -> dict[str, str]:
    mine = ("GRADDX_", "NO_COLOR", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    return {**kept, "GRADDX_URL": server, "COLUMNS": "80"}


@pytest.fixture
def check(environment: dict[str, str], tmp_path: Path) -> Run:
    """`graddx check …` in an empty folder."""

    def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [GRADDX, "check", *arguments],
            cwd=tmp_path,
            env={**environment, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_passed_is_0(check: Run) -> None:
    ran = check(HEALTHY)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("HEALTHY  ")
    assert "healthy_mlp.json passes: no findings." in ran.stdout


def test_a_finding_is_1(check: Run) -> None:
    ran = check(SICK)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert ran.stdout.startswith("UNHEALTHY  Gradients vanish")
    assert "vanishing_sigmoid_mlp.json does not pass: 1 error" in ran.stdout
    assert ran.stdout.index("Findings") < ran.stdout.index("Recommendations")
    assert "\x1b" not in ran.stdout
    prose = ran.stdout[: ran.stdout.index("Code to paste")].splitlines()
    assert max(len(line) for line in prose if "://" not in line) <= 80


def test_a_file_with_its_input(check: Run, models: Path) -> None:
    assert check(models / "healthy.pt", "--input", "3,32,32").returncode == 0
    assert check(models / "sick.pt", "--input", "3,32,32").returncode == 1


def keras_json(activation: str, layers: int) -> str:
    """What model.to_json() of Keras 3 writes, as far as it is read."""
    fc = {"units": 32, "activation": activation, "kernel_initializer": "he_normal"}
    entries = [
        {"class_name": "InputLayer", "config": {"name": "given", "batch_shape": [None, 32]}},
        *({"class_name": "Dense", "config": {"name": f"fc{n}", **fc}} for n in range(layers)),
        {"class_name": "Dense", "config": {"name": "head", "units": 4}},
    ]
    said = {"module": "keras", "class_name": "Sequential", "config": {"layers": entries}}
    return json.dumps(said)


def test_a_keras_model(check: Run, tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text(keras_json("relu", 3))
    ran = check("good.json")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("HEALTHY  ")
    (tmp_path / "bad.json").write_text(keras_json("sigmoid", 16))
    ran = check("bad.json")
    assert (ran.returncode, ran.stderr) == (1, "")
    assert ran.stdout.startswith("UNHEALTHY  Gradients vanish: fc0")
    assert "optimizer.global_clipnorm" in ran.stdout
    assert "nn." not in ran.stdout[ran.stdout.index("Code to paste") :]


def test_what_a_keras_model_has_and_a_spec_cannot_say_is_2(check: Run, tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(keras_json("my_own", 1))
    ran = check("own.json")
    assert (ran.returncode, ran.stdout) == (2, "")
    said = " ".join(ran.stderr.split())
    assert "layer `fc0` (Dense): the activation 'my_own' is not supported" in said
    assert "/model/config/config/layers/1/config/activation" in said


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_saved_keras_model_is_told_how_to_be_sent(check: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 or whatever else")
    ran = check(name)
    assert (ran.returncode, ran.stdout) == (2, "")
    said = " ".join(ran.stderr.split())
    assert f"keras.models.load_model('{name}').to_json(), written to a file" in said


def test_fail_on(check: Run) -> None:
    assert check(SICK, "--fail-on", "never").returncode == 0
    assert check(HEALTHY, "--fail-on", "warning").returncode == 0
    warnings_only = ("--fail-on", "error", "--probe", '{"trial_steps": 0}')
    assert check(SICK, *warnings_only).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere.pt"], "nowhere.pt: no such file"),
        ([SICK, "--frobnicate"], "No such option: --frobnicate"),
        ([SICK, "--fail-on", "maybe"], "'maybe' is not one of 'error', 'warning', 'never'"),
        ([SICK, "--format", "xml"], "'xml' is not one of"),
        ([SICK, "--timeout", "-1"], "--timeout"),
        ([SICK, "--input", "3x32"], "expected SHAPE"),
        ([SICK, "--label", "x"], "expected KEY=VALUE"),
        ([SICK, "--probe", "{"], "--probe: not valid JSON"),
        ([SICK, "--url", "localhost:8000"], "is not an address"),
        ([SICK, "--output", "nowhere/x"], "--output nowhere/x: No such file"),
        ([], "Missing argument"),
    ],
)
def test_usage_is_2(check: Run, arguments: list[str | Path], complaint: str) -> None:
    ran = check(*arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert complaint in " ".join(ran.stderr.split())


def test_a_wrong_spec_is_2_and_says_where(check: Run, tmp_path: Path) -> None:
    spec = {"input": {"shape": [4]}, "layers": [{"type": "Linear"}, {"type": "ReLu"}]}
    (tmp_path / "net.json").write_text(json.dumps(spec))
    ran = check("net.json")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "/model/layers/1/type: there is no layer type" in ran.stderr
    assert "did you mean `ReLU`?" in ran.stderr


def test_a_file_that_is_no_model_is_2(check: Run, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(b"not a model")
    ran = check("net.pt", "--input", "3")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "unsupported_artifact" in ran.stderr


def test_no_server_is_3_and_says_what_to_do(check: Run) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        ran = check(HEALTHY, "--url", url)
    assert (ran.returncode, ran.stdout) == (3, "")
    assert f"no answer from {url}" in ran.stderr
    assert "is the server running? `make run` starts one" in ran.stderr


def test_another_address_is_3(check: Run, server: str) -> None:
    ran = check(HEALTHY, "--url", f"{server}/docs")
    assert (ran.returncode, ran.stdout) == (3, "")
    assert "without a path such as /docs?" in ran.stderr


def test_a_timeout_is_4_and_says_where_it_goes_on(check: Run, server: str) -> None:
    # Of its own: what was answered before is answered at once.
    ran = check(SICK, "--timeout", "0", "--probe", '{"seed": 4}')
    assert (ran.returncode, ran.stdout) == (4, "")
    assert f"{server}/v1/analyses/" in ran.stderr


@pytest.mark.parametrize("form", ["human", "json"])
def test_a_failed_analysis_is_5(check: Run, models: Path, form: str) -> None:
    ran = check(models / "raising.pt", "--input", "3,32,32", "--format", form)
    assert (ran.returncode, ran.stderr) == (5, "")
    assert "model_raised" in ran.stdout
    assert "this model does not work" in ran.stdout
    if form == "json":
        assert json.loads(ran.stdout)["status"] == "failed"


def test_json_is_the_whole_answer_and_nothing_else(check: Run) -> None:
    ran = check(SICK, "--format", "json", "--label", "commit=abc", "--label", "example=mine")
    answer = json.loads(ran.stdout)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert answer["labels"] == {"commit": "abc", "example": "mine"}
    assert len(answer["diagnosis"]["layers"]) == 21


@pytest.mark.parametrize("form", ["human", "json"])
def test_the_result_can_go_to_a_file(check: Run, tmp_path: Path, form: str) -> None:
    ran = check(SICK, "--output", "report", "--format", form)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", "")
    assert "vanishing_gradient" in (tmp_path / "report").read_text()


def test_a_project_says_it_once(check: Run, tmp_path: Path, server: str, models: Path) -> None:
    below = tmp_path / "graddx.toml"
    below.write_text(f"""
        url = "{server}"
        fail_on = "never"
        labels = {{team = "vision"}}
        [probe]
        inputs = [{{shape = [3, 32, 32]}}]
        [[ignore]]
        code = "rank_collapse"
        reason = "known"
    """)
    ran = check(models / "sick.pt", "--format", "json", GRADDX_URL="")
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout)
    assert answer["labels"] == {"team": "vision"}
    assert [one["reason"] for one in answer["diagnosis"]["suppressed"]] == ["known"]
    ran = check(models / "sick.pt", "--fail-on", "error")
    assert ran.returncode == 1
    assert "known" in ran.stdout[ran.stdout.index("Ignored") :]


def test_a_mistyped_key_is_2(check: Run, tmp_path: Path) -> None:
    (tmp_path / "graddx.toml").write_text('[[ignore]]\ncode = "rank_collapse"\nlayer = "fc*"')
    ran = check(SICK)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "unknown key ignore[0].layer; did you mean layers?" in " ".join(ran.stderr.split())


def test_a_reader_that_goes_away_changes_nothing(environment: dict[str, str]) -> None:
    line = f"{GRADDX} check {SICK} --format json | true; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(
        ["bash", "-c", line], env=environment, capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr) == ("1\n", "")


def test_a_full_disk_is_no_finding(environment: dict[str, str]) -> None:
    line = f"{GRADDX} check {SICK} > /dev/full"
    ran = subprocess.run(
        ["bash", "-c", line], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert "cannot be written" in ran.stderr


def test_an_interruption_is_130() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen([GRADDX, "check", SICK, "--url", url], stderr=subprocess.PIPE)
        connection, _ = silent.accept()
        with connection:
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"Traceback" not in stderr


def test_an_interruption_cancels_the_analysis(environment: dict[str, str]) -> None:
    long = '{"seeds": 32, "batches": 64, "trial_steps": 10000, "budget_seconds": 600}'
    mine = {"label": "test:interrupted"}
    process = subprocess.Popen(
        [GRADDX, "check", SICK, "--probe", long, "--label", "test=interrupted"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    url = f"{environment['GRADDX_URL']}/v1/analyses"
    deadline = time.monotonic() + 30
    while not any(one["status"] == "running" for one in _listed(url, mine)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert [one["status"] for one in _listed(url, mine)] == ["cancelled"]


def _listed(url: str, params: dict[str, str]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = httpx2.get(url, params=params).json()["items"]
    return items


def test_progress_is_for_terminals(environment: dict[str, str], models: Path) -> None:
    """stderr is one here; stdout stays the result alone."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [GRADDX, "check", models / "healthy.pt", "--input", "3,32,32", "--format", "json"],
        env={**environment, "TERM": "xterm-256color"},
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    stdout, _ = process.communicate(timeout=60)
    os.close(theirs)
    assert process.returncode == 0
    assert json.loads(stdout)["passed"] is True
    assert b"sending healthy.pt" in os.read(ours, 65536)
    os.close(ours)


def test_version_and_help(environment: dict[str, str]) -> None:
    for arguments, told in (
        (["--version"], "graddx "),
        (["check", "--help"], "Exit codes: 0 passed"),
    ):
        ran = subprocess.run(
            [GRADDX, *arguments], env=environment, capture_output=True, text=True, check=True
        )
        assert told in ran.stdout
    assert max(map(len, ran.stdout.splitlines())) <= 80
