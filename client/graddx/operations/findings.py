"""What came of an analysis: its numbers, set beside others, and in the forms of CI systems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graddx.calling import call
from graddx.catalog import Catalog
from graddx.comparison import Comparison, History, HistoryPoint
from graddx.errors import AnalysisUnfinished, Problem
from graddx.operations.paths import CATALOG, HISTORY, analysis_path, label_params
from graddx.reading import read
from graddx.server import Server
from graddx.statistics import Layer
from graddx.steps import Page, Pages, Send, Steps

MARKDOWN = "text/markdown"


def layers(server: Server, analysis_id: str) -> Steps[tuple[Layer, ...]]:
    """Every statistic of every layer; empty until the analysis succeeded."""
    answer = yield from call(server, Send("GET", analysis_path(analysis_id, "layers")))
    return read(answer, _Layers).layers


def compare(server: Server, before: str, after: str) -> Steps[Comparison]:
    """What changed from one finished analysis to another: verdict, findings, and layer by layer
    every statistic with its spread. Raises AnalysisUnfinished."""
    path = analysis_path(before, "compare", after)
    return read((yield from call(server, Send("GET", path))), Comparison)


def layer_history(
    server: Server, layer: str, statistic: str, *, labels: Mapping[str, str] | None = None
) -> Pages[HistoryPoint]:
    """One statistic of one layer ("gradient.gain") over past analyses that carry these labels,
    newest first, page after page as they are asked for."""
    params: dict[str, Any] = {"layer": layer, "statistic": statistic, "label": label_params(labels)}

    def page(cursor: str | None) -> Steps[Page[HistoryPoint]]:
        asked = params | ({"cursor": cursor} if cursor else {})
        history = read((yield from call(server, Send("GET", HISTORY, params=asked))), History)
        return Page(history.items, history.next_cursor)

    return page


def sarif(server: Server, analysis_id: str, path: str | None = None) -> Steps[str]:
    """The findings as SARIF 2.1.0. `path`: where the model's file is in the repository. Raises
    AnalysisUnfinished."""
    return (yield from _form(server, analysis_path(analysis_id, "sarif"), path))


def junit(server: Server, analysis_id: str, path: str | None = None) -> Steps[str]:
    """Every detector as a test case of JUnit XML; as `sarif`."""
    return (yield from _form(server, analysis_path(analysis_id, "junit"), path))


def markdown(server: Server, analysis_id: str, path: str | None = None) -> Steps[str]:
    """A finished analysis for a comment or a page; as `sarif`. Given once where the request
    retains nothing, as `get`."""
    return (yield from _form(server, analysis_path(analysis_id), path, MARKDOWN))


def report(server: Server, analysis_id: str) -> Steps[str]:
    """A finished analysis as one HTML page for people: charts, findings, code to copy. It needs
    no network. Raises AnalysisUnfinished."""
    return (yield from _form(server, analysis_path(analysis_id, "report"), None))


def catalog(server: Server) -> Steps[Catalog]:
    """Everything the server can find, advise and build."""
    return read((yield from call(server, Send("GET", CATALOG))), Catalog)


def _form(server: Server, where: str, path: str | None, accept: str | None = None) -> Steps[str]:
    params = {"path": path} if path else None
    answer = yield from call(server, Send("GET", where, params=params, accept=accept))
    if answer.status_code == 202:
        raise AnalysisUnfinished(
            Problem(409, "analysis_unfinished", "Analysis not finished", "it goes on")
        )
    return answer.text


@dataclass(frozen=True, slots=True)
class _Layers:
    """Answer of `GET /v1/analyses/{id}/layers`."""

    layers: tuple[Layer, ...] = ()
