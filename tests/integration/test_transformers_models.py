"""Models of the transformers package as people export them, judged behind the real wall: all are
answered, none is called unhealthy."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.bootstrap import WARM_UP_SYMBOLIC
from service.domain.model_source import ArtifactSource
from service.domain.probe_plan import ProbePlan
from service.domain.report import Report
from service.domain.request import AnalysisRequest, ModelRequest
from service.pipeline import analyse
from service.sandbox.limits import Limits
from service.sandbox.prober import ZygoteProber
from service.sandbox.seal import why_unsealable
from tests.integration.transformers_models import FORMS, KNOWN

UNSEALABLE = why_unsealable()
pytestmark = pytest.mark.skipif(UNSEALABLE is not None, reason=f"cannot seal here: {UNSEALABLE}")
PAGE = Path(__file__).parents[2] / "docs" / "exporting.md"
SECONDS = 60.0
"""Within which a model of this size is answered, on a busy machine too."""


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
    made = ZygoteProber(
        Limits(),
        f"{child}:serve",
        f"{child}:warm_up",
        files.path,
        warm_up_symbolic=WARM_UP_SYMBOLIC,
    )
    yield made
    made.close()


def judged(prober: ZygoteProber, files: Files, name: str, form: str, **settings: Any) -> Report:
    """The answer to one model in one form."""
    identity = f"sha256:{name}-{form}-{len(settings)}"
    files.put(identity, FORMS[form](name, **settings))
    inputs = tuple(KNOWN[name].inputs.values()) if form == "torchscript" else ()
    plan = ProbePlan(
        inputs=inputs, batch_size=32, batches=2, seeds=1, trial_steps=0, budget_seconds=120
    )
    request = AnalysisRequest(
        ModelRequest("artifact", artifact_id=identity), plan, allowed_changes=()
    )
    return analyse(request, ArtifactSource(identity, form), prober, lambda *_: None)


@pytest.mark.parametrize("name", KNOWN)
def test_answered_in_both_forms_and_not_falsely_alarmed(
    prober: ZygoteProber, files: Files, name: str
) -> None:
    reports = [judged(prober, files, name, form) for form in FORMS]
    for report in reports:
        assert report.diagnosis.verdict in ("healthy", "at_risk"), report.diagnosis.summary
        assert not [one for one in report.diagnosis.findings if one.severity == "error"]
        assert report.facts.recorded
        assert not any("no other" in note for note in report.notes), "the batch should be free"
        assert report.cost.wall_seconds <= SECONDS
    traced, exported = (report.diagnosis for report in reports)
    assert traced.verdict == exported.verdict
    assert [one.code for one in traced.findings] == [one.code for one in exported.findings]


def test_dropout_hides_as_much_in_both_forms(prober: ZygoteProber, files: Files) -> None:
    """The package's own 0.8 before a classifier of this size lies near the edge of a warning: the
    masks must not depend on the form, or the verdict does."""
    settings = {"classifier_dropout_prob": 0.8}
    traced, exported = (judged(prober, files, "MobileNetV2", form, **settings) for form in FORMS)
    shares = [one.layers[-1].activation.signal_share for one in (traced, exported)]
    assert shares[0] == pytest.approx(shares[1], abs=1e-6)
    assert 0.02 < (shares[0] or 0.0) < 0.5, "of a signal of which the rate alone leaves 0.2"
    assert traced.diagnosis.verdict == exported.diagnosis.verdict
    assert traced.diagnosis.verdict in ("healthy", "at_risk")


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
