"""Models of the transformers package as people export them, judged behind the real wall: all are
answered, none is called unhealthy."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.domain.model_source import ArtifactSource
from service.domain.probe_plan import ProbePlan
from service.domain.request import AnalysisRequest, ModelRequest
from service.pipeline import analyse
from service.sandbox.limits import Limits
from service.sandbox.prober import ZygoteProber
from service.sandbox.seal import why_unsealable
from tests.integration.transformers_models import FORMS, KNOWN

UNSEALABLE = why_unsealable()
pytestmark = pytest.mark.skipif(UNSEALABLE is not None, reason=f"cannot seal here: {UNSEALABLE}")
PAGE = Path(__file__).parents[2] / "docs" / "exporting.md"


class Files:
    """Written files by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        return self._folder / name.replace(":", "_")

    def put(self, name: str, content: bytes) -> None:
        self.path(name).write_bytes(content)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("transformers"))


@pytest.fixture(scope="module")
def prober(files: Files) -> Iterator[ZygoteProber]:
    child = "service.probing.child"
    made = ZygoteProber(Limits(), f"{child}:serve", f"{child}:warm_up", files.path)
    yield made
    made.close()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", KNOWN)
def test_answered_and_not_falsely_alarmed(
    prober: ZygoteProber, files: Files, name: str, form: str
) -> None:
    identity = f"sha256:{name}-{form}"
    files.put(identity, FORMS[form](name))
    inputs = tuple(KNOWN[name].inputs.values()) if form == "torchscript" else ()
    plan = ProbePlan(
        inputs=inputs, batch_size=32, batches=2, seeds=1, trial_steps=0, budget_seconds=120
    )
    request = AnalysisRequest(
        ModelRequest("artifact", artifact_id=identity), plan, allowed_changes=()
    )
    report = analyse(request, ArtifactSource(identity, form), prober, lambda *_: None)
    assert report.diagnosis.verdict in ("healthy", "at_risk"), report.diagnosis.summary
    assert not [one for one in report.diagnosis.findings if one.severity == "error"]
    assert report.facts.recorded
    assert not any("no other" in note for note in report.notes), "the batch should be free"


def test_what_the_page_shows_can_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks, one after the other in one folder; each writes a file."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(blocks) >= 3
    for block in blocks:
        before = set(tmp_path.iterdir())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(block, str(PAGE), "exec"), {"__name__": "page"})
        assert set(tmp_path.iterdir()) > before, block
