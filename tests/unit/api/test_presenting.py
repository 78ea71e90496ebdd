"""The whole answer: written layer by layer, as if it had not been, and beside the others' calls."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from api.presenting import analysis_json, analysis_out
from api.routes import analyses
from service.domain.analysis import Analysis
from service.domain.request import AnalysisRequest, ModelRequest
from tests.unit.api.bodies import SPEC, body
from tests.unit.api.fake_engine import LAYER, FakeEngine, succeed


@pytest.mark.parametrize("count", [None, 0, 1, 3])
def test_layers_one_at_a_time_make_the_same_answer(engine: FakeEngine, count: int | None) -> None:
    engine.outcome = None
    analysis = engine.submit(AnalysisRequest(ModelRequest("spec", spec=SPEC)))
    if count is not None:
        analysis = succeed(analysis)
        assert analysis.report is not None
        layers = tuple(replace(LAYER, index=n, name=f'"layers":[]}}}} {n}') for n in range(count))
        analysis = replace(analysis, report=replace(analysis.report, layers=layers))
    assert analysis_json(analysis) == analysis_out(analysis).model_dump_json().encode()


def test_an_answer_is_written_beside_the_calls_of_others(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(analysis: Analysis) -> bytes:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return analysis_json(analysis)

    monkeypatch.setattr(analyses, "analysis_json", written)
    answer = client.post("/v1/analyses?wait=5", json=body())
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
