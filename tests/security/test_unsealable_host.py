"""A host without Landlock: uploads are refused, specs go on."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from service.domain.architecture import Architecture
from service.domain.errors import SandboxUnavailable
from service.domain.model_source import ArtifactSource, ModelSource, SpecSource
from service.domain.probe_plan import ProbePlan
from service.sandbox import seccomp
from service.sandbox.limits import Limits
from service.sandbox.prober import ZygoteProber
from service.sandbox.seal import why_unsealable
from tests.security.test_seal import run_behind

CHILDREN = "tests.integration.sandbox_children"
SPEC = SpecSource(Architecture((1,), "float32", ()))
UPLOAD = ArtifactSource("sha256:1", "torchscript")

pytestmark = pytest.mark.skipif(why_unsealable() is not None, reason="needs seccomp to play it")


def without_landlock() -> None:
    """Make this process and all below it believe that the kernel has none, as old ones do."""
    load_number, jump_if_equal, answer = 0x20, 0x15, 0x06
    refuse, allow = 0x00050000 | errno.ENOSYS, 0x7FFF0000
    landlock_create_ruleset = 444
    program = [
        (load_number, 0, 0, 0),
        (jump_if_equal, 0, 1, landlock_create_ruleset),
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


@pytest.mark.parametrize(
    ("source", "run_uploads_unsealed", "said"),
    [
        (SPEC, False, "opened; Landlock"),
        (UPLOAD, False, "refused; this host cannot seal a probe: Landlock"),
        (UPLOAD, True, "opened; Landlock"),
    ],
)
def test_uploads_need_the_seal(
    tmp_path: Path, source: ModelSource, run_uploads_unsealed: bool, said: str
) -> None:
    model = tmp_path / "model"
    model.write_bytes(b"model")
    act = opening(source, model, run_uploads_unsealed=run_uploads_unsealed)
    assert run_behind(without_landlock, act).startswith(said)
