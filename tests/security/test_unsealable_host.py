"""A host without Landlock or seccomp: uploads are refused, specs go on."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from service.domain.architecture import Architecture, Sample
from service.domain.errors import SandboxUnavailable
from service.domain.model_source import ArtifactSource, ModelSource, SpecSource
from service.domain.probe_plan import ProbePlan
from service.sandbox import seccomp
from service.sandbox.limits import Limits
from service.sandbox.prober import ZygoteProber
from service.sandbox.seal import why_unsealable
from tests.security.servers import serving
from tests.security.test_seal import run_behind
from tests.unit.intake.archives import archive

CHILDREN = "tests.integration.sandbox_children"
SPEC = SpecSource(Architecture((Sample((1,)),), ()))
UPLOAD = ArtifactSource("sha256:1", "torchscript")

pytestmark = pytest.mark.skipif(why_unsealable() is not None, reason="needs seccomp to play it")


def without_landlock() -> None:
    """Make this process and all below it believe that the kernel has none, as old ones do."""
    landlock_create_ruleset = 444
    refuse_call(landlock_create_ruleset)


def without_seccomp() -> None:
    """Make this process and all below it believe that the kernel filters no calls, as some
    containers do."""
    refuse_call(seccomp.this_architecture().seccomp)


def refuse_call(number: int) -> None:
    """This call answers ENOSYS from now on."""
    load_number, jump_if_equal, answer = 0x20, 0x15, 0x06
    refuse, allow = 0x00050000 | errno.ENOSYS, 0x7FFF0000
    program = [
        (load_number, 0, 0, 0),
        (jump_if_equal, 0, 1, number),
        (answer, 0, 0, refuse),
        (answer, 0, 0, allow),
    ]
    seccomp.install(seccomp.this_architecture(), program)


def opening(source: ModelSource, model: Path, *, run_uploads_unsealed: bool) -> Callable[[], str]:
    def act() -> str:
        with closing(
            ZygoteProber(
                Limits(wall_seconds=30, memory_mb=256),
                f"{CHILDREN}:serve",
                f"{CHILDREN}:warm_up",
                lambda _: model,
                run_uploads_unsealed=run_uploads_unsealed,
            )
        ) as prober:
            try:
                with prober.open(source, ProbePlan()) as session:
                    return f"opened; {why_unsealable()}; {session.facts.format}"
            except SandboxUnavailable as error:
                return f"refused; {error.detail}"

    return act


WITHOUT = {"Landlock": without_landlock, "seccomp": without_seccomp}


@pytest.mark.parametrize("what", WITHOUT)
@pytest.mark.parametrize(
    ("source", "run_uploads_unsealed", "said"),
    [
        (SPEC, False, "opened; "),
        (UPLOAD, False, "refused; this host cannot seal a probe: "),
        (UPLOAD, True, "opened; "),
    ],
)
def test_uploads_need_the_seal(
    tmp_path: Path, source: ModelSource, run_uploads_unsealed: bool, said: str, what: str
) -> None:
    model = tmp_path / "model"
    model.write_bytes(b"model")
    act = opening(source, model, run_uploads_unsealed=run_uploads_unsealed)
    assert run_behind(WITHOUT[what], act).startswith(said + what)


@pytest.mark.parametrize("what", WITHOUT)
def test_the_server_refuses_uploads_and_takes_specs(tmp_path: Path, what: str) -> None:
    program = ["-m", "tests.security.unsealable_server", what.lower()]
    with serving(tmp_path, program, GRADDX_PROBE_SECONDS="60") as server:
        answer = server.post(archive())
        assert (answer.status_code, answer.json()["code"]) == (503, "sandbox_unavailable")
        assert what in answer.json()["detail"]
        body = {
            "model": {
                "kind": "spec",
                "input": {"shape": [4]},
                "layers": [{"type": "Linear", "args": {"out_features": 3}}],
            },
            "probe": {"trial_steps": 0},
        }
        spec = httpx2.post(f"{server.url}/v1/analyses?wait=60", json=body, timeout=90)
        assert (spec.status_code, spec.json()["status"]) == (200, "succeeded")
