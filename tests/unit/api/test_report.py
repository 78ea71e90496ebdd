"""The report: a page that says what the analysis says, lets nothing in, and needs no network."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import html5lib
import pytest
from fastapi.testclient import TestClient

from api.report.page import MOST_ROWS
from service.domain.api_keys import Caller, Scope
from service.domain.measurements import Trial, TrialRun
from service.domain.report import Report
from tests.unit.api.bodies import body
from tests.unit.api.fake_engine import FakeEngine, cancel, fail, succeed
from tests.unit.api.reports import Sketcher, remembering, sick_report, with_report

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
EVIL = '</style></script><script>alert(1)</script><img src=x onerror="alert(1)">{{7*7}}\x1b[31m'


@pytest.fixture
def drawer(client: TestClient) -> Sketcher:
    sketcher = Sketcher()
    client.app.state.drawer = sketcher  # type: ignore[attr-defined]
    return sketcher


@pytest.fixture
def ask(client: TestClient, engine: FakeEngine, drawer: Sketcher) -> Callable[[Report], Any]:
    """The page of a new analysis that ends with this report."""

    def get(made: Report, query: str = "") -> Any:
        engine.outcome = with_report(made)
        analysis = client.post("/v1/analyses", json=body()).json()["id"]
        answer = client.get(f"/v1/analyses/{analysis}/report{query}")
        assert answer.status_code == 200
        return answer

    return get


class Read(HTMLParser):
    """Elements with their attributes, and the words outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def valid(text: str) -> None:
    """As browsers read HTML, without a single error."""
    html5lib.HTMLParser(strict=True).parse(text)


PAGES = {
    "sick": sick_report(),
    "recurrent": remembering(),
    "one layer": sick_report(1),
    "nothing done": replace(sick_report(), prescription=None, recommendations=(), notes=()),
    "long": sick_report(MOST_ROWS + 50, fall=1.1),
    "hostile": sick_report(name=f"{EVIL}{{}}"),
}


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_valid_and_self_contained(ask: Any, name: str) -> None:
    text = ask(PAGES[name]).text
    valid(text)
    page = Read(text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"img", "link", "iframe", "object", "form", "base"}
    for tag, attributes in page.elements:
        assert not {name for name in attributes if name.startswith("on") or name == "style"}, tag
        assert "src" not in attributes
        address = attributes.get("href") or ""
        assert not address or address.startswith(("/", "#")), address
    assert [tag for tag, _ in page.elements].count("script") == 1


def test_the_verdict_comes_first(ask: Any) -> None:
    page = Read(ask(sick_report()).text)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("h1") == 1
    _, _, said = page.text.partition("About")  # the last link of the navigation
    order = [
        "This model will not train as it stands.",
        "fc0 is sick.",
        "With Draw fc0 it does: measured, trained for a short while, healthy .",
        "does not pass",
        "Gradient flow",
        "Findings",
        "What to do",
        "init('fc0')",
        "Measurements",
        "a note on fc0",
    ]
    places = [said.find(one) for one in order]
    assert -1 not in places, order[places.index(-1)]
    assert places == sorted(places)


def test_without_a_prescription_it_says_so(ask: Any) -> None:
    text = Read(ask(replace(sick_report(), prescription=None)).text).text
    assert "No set of changes is prescribed" in text
    assert "No set of changes" not in Read(ask(sick_report()).text).text


def test_only_its_own_style_and_script_may_act(ask: Any) -> None:
    answer = ask(sick_report())
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for kind, tag in (("style-src", "style"), ("script-src", "script")):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}';" in policy
    # the same where no server sends it
    (meta,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', answer.text)
    assert meta.replace("&#39;", "'") == policy.replace("; frame-ancestors 'none'", "")


def test_names_from_models_are_text(ask: Any) -> None:
    text = ask(sick_report(name=f"{EVIL}{{}}")).text
    assert "<script>alert" not in text
    assert "\x1b" not in text
    assert "<img" not in text
    assert "49" not in text.replace("sha256", "").split("<main>")[1].split("7*7")[0]
    assert "&lt;script&gt;alert(1)" in text


def drawn(spec: dict[str, Any]) -> set[tuple[str, str, float]]:
    """Series, place and value of everything that Vega is told to draw."""
    return {
        (row["series"], str(row["at"]).split(" ")[0], row["value"])
        for part in spec["layer"]
        if part["mark"]["type"] == "line"
        for row in part["data"]["values"]
        if row["value"] is not None
    }


@pytest.mark.parametrize("name", [name for name in PAGES if name != "hostile"])
def test_the_table_says_what_the_chart_shows(ask: Any, drawer: Sketcher, name: str) -> None:
    text = ask(PAGES[name]).text
    figures = re.findall(r"<figure id=\"([^\"]+)\">(.*?)</figure>", text, re.DOTALL)
    assert len(figures) == len(drawer.specs) >= 3
    for (_, figure), spec in zip(figures, drawer.specs, strict=True):
        heads = re.findall(r'<th scope="col">(.*?)</th>', figure)
        rows = re.findall(r'<tr><th scope="row">(\d+)</th>(.*?)</tr>', figure)
        told = {
            (head, place, cell.split(" ")[0])
            for place, cells in rows
            for head, cell in zip(heads[1:], re.findall(r"<td>(.*?)</td>", cells), strict=True)
            if head != "name" and cell != "–"
        }
        assert told == {(series, at, f"{value:.3g}") for series, at, value in drawn(spec)}


def spec_of(drawer: Sketcher, ask: Any, made: Report, name: str) -> dict[str, Any]:
    text = ask(made).text
    names = re.findall(r"<figure id=\"([^\"]+)\">", text)
    found: dict[str, Any] = drawer.specs[names.index(name) - len(names)]
    return found


def test_the_flow_shows_before_after_theory_and_spread(ask: Any, drawer: Sketcher) -> None:
    spec = spec_of(drawer, ask, sick_report(4), "gradient-flow")
    by_series: dict[str, list[float]] = {}
    for series, _, value in sorted(drawn(spec), key=lambda one: one[1]):
        by_series.setdefault(series, []).append(value)
    assert by_series["as submitted"] == pytest.approx([1e-3, 1e-2, 1e-1, 1.0])
    assert by_series["theory"] == pytest.approx([1e-3, 1e-2, 1e-1, 1.0])
    assert by_series["with the prescription"] == pytest.approx([1.0] * 4)
    (band,) = [part for part in spec["layer"] if part["mark"]["type"] == "area"]
    first = band["data"]["values"][0]
    assert (first["low"], first["high"]) == pytest.approx((0.5e-3, 2e-3))
    (line, *_) = [part for part in spec["layer"] if part["mark"]["type"] == "line"]
    assert line["encoding"]["y"]["scale"]["type"] == "log"


def test_theory_is_not_told_of_what_is_no_chain(ask: Any, drawer: Sketcher) -> None:
    sick = sick_report(4)
    skipping = replace(sick.layers[2], residual=True)
    made = replace(sick, layers=(*sick.layers[:2], skipping, sick.layers[3]))
    spec = spec_of(drawer, ask, made, "gradient-flow")
    assert "theory" not in {series for series, _, _ in drawn(spec)}


def test_gradients_that_are_zero_are_counted(ask: Any) -> None:
    sick = sick_report(4)
    gone = replace(sick.layers[0], gradient=replace(sick.layers[0].gradient, norm=0.0), spread={})
    text = ask(replace(sick, layers=(gone, *sick.layers[1:]))).text
    assert "1 value is exactly 0" in Read(text).text


def test_memory_and_loss(ask: Any, drawer: Sketcher) -> None:
    spec = spec_of(drawer, ask, remembering(12), "memory")
    assert len({at for _, at, _ in drawn(spec)}) == 12
    spec = spec_of(drawer, ask, sick_report(), "loss")
    assert ("with the prescription", "3", 0.1) in drawn(spec)


def test_what_is_as_good_as_nothing_has_no_chart(ask: Any) -> None:
    sick = sick_report()
    few = tuple(
        replace(one, activation=replace(one.activation, saturated_fraction=0.005))
        for one in sick.layers
    )
    assert 'id="saturation"' in ask(sick).text
    assert 'id="saturation"' not in ask(replace(sick, layers=few)).text


def test_the_trial_of_a_model_without_cure_is_shown(ask: Any, drawer: Sketcher) -> None:
    runs = (
        TrialRun("sgd", 0.1, (2.3, 2.2), (1.0, 1.0), None, False, 0.1),
        TrialRun("adam", 0.1, (2.3, 1.1), (1.0, 1.0), None, False, 0.6),
    )
    made = replace(sick_report(), prescription=None, trial=Trial("gaussian_classes", 2, runs))
    assert ("as submitted", "2", 1.1) in drawn(spec_of(drawer, ask, made, "loss"))


def test_a_thousand_layers_stay_readable(ask: Any, drawer: Sketcher) -> None:
    sick = sick_report(1000, fall=1.01)
    lost = replace(sick.layers[500], gradient=replace(sick.layers[500].gradient, norm=1e-33))
    text = ask(replace(sick, layers=(*sick.layers[:500], lost, *sick.layers[501:]))).text
    assert len(text) < 500_000
    assert "800 more" in text
    assert "of 1000 places are left out" in Read(text).text
    assert "/layers?format=csv" in text
    places = {at for series, at, _ in drawn(drawer.specs[0]) if series == "as submitted"}
    assert {"1", "501", "1000"} <= places
    assert len(places) <= 240


def test_without_pictures_the_tables_are_there(ask: Any, drawer: Sketcher) -> None:
    drawer.works = False
    text = ask(sick_report()).text
    valid(text)
    assert "could not be drawn" in text
    assert "Gradient flow as a table" in text


def test_what_goes_on_looks_again(client: TestClient, engine: FakeEngine, drawer: Sketcher) -> None:
    engine.outcome = None
    analysis = client.post("/v1/analyses", json=body()).json()["id"]
    answer = client.get(f"/v1/analyses/{analysis}/report")
    assert (answer.status_code, answer.headers["retry-after"]) == (202, "1")
    valid(answer.text)
    assert f'content="1; url=/v1/analyses/{analysis}/report"' in answer.text


@pytest.mark.parametrize(("outcome", "said"), [(fail, "ValueError: boom"), (cancel, "cancelled")])
def test_a_failure_is_no_pass(
    client: TestClient, engine: FakeEngine, drawer: Sketcher, outcome: Any, said: str
) -> None:
    engine.outcome = outcome
    analysis = client.post("/v1/analyses", json=body()).json()["id"]
    answer = client.get(f"/v1/analyses/{analysis}/report")
    assert answer.status_code == 200
    valid(answer.text)
    assert said in answer.text
    assert "This is not a pass" in answer.text


def test_browsers_get_the_page_and_programs_json(
    client: TestClient, engine: FakeEngine, drawer: Sketcher
) -> None:
    engine.outcome = with_report(sick_report())
    posted = client.post("/v1/analyses?wait=9", json=body(), headers={"accept": BROWSER})
    assert posted.headers["content-type"].startswith("text/html")
    address = posted.headers["content-location"]
    page = client.get(address, headers={"accept": BROWSER})
    assert page.text == posted.text == client.get(f"{address}/report").text
    assert client.get(address).headers["content-type"] == "application/json"
    gated = client.get(f"{address}?gate=true", headers={"accept": "text/html"})
    assert (gated.status_code, gated.text) == (417, page.text)


def test_a_page_that_is_waited_for_says_where(
    client: TestClient, engine: FakeEngine, drawer: Sketcher
) -> None:
    engine.outcome = None
    posted = client.post("/v1/analyses", json=body(), headers={"accept": BROWSER})
    assert posted.status_code == 202
    assert posted.headers["location"].endswith("/v1/analyses/a1")
    gated = client.get("/v1/analyses/a1?gate=true&wait=0", headers={"accept": "text/html"})
    assert (gated.status_code, gated.json()["code"]) == (504, "not_finished")


def test_to_keep_it_is_a_file(ask: Any) -> None:
    answer = ask(sick_report(), "?download=true")
    assert answer.headers["content-disposition"] == 'attachment; filename="a1.html"'


def test_charts_by_address(client: TestClient, ask: Any, drawer: Sketcher) -> None:
    names = re.findall(r"<figure id=\"([^\"]+)\">", ask(sick_report()).text)
    assert names[0] == "gradient-flow"
    for name in names:
        for end, media in (("svg", "image/svg+xml"), ("png", "image/png")):
            answer = client.get(f"/v1/analyses/a1/charts/{name}.{end}")
            assert (answer.status_code, answer.headers["content-type"]) == (200, media)
            assert "sandbox" in answer.headers["content-security-policy"]
            known = {"if-none-match": answer.headers["etag"]}
            assert client.get(answer.url.path, headers=known).status_code == 304
    assert "var(--" not in str(drawer.specs[-1]), "a file brings its colours"
    for path, code in (("gradient-flow.gif", 422), ("no-such.svg", 404), ("memory.svg", 404)):
        assert client.get(f"/v1/analyses/a1/charts/{path}").status_code == code
    drawer.works = False
    assert client.get("/v1/analyses/a1/charts/loss.png").status_code == 404


def test_charts_of_what_has_none(client: TestClient, engine: FakeEngine, drawer: Sketcher) -> None:
    for outcome, status in ((None, 409), (fail, 404)):
        engine.outcome = outcome
        analysis = client.post("/v1/analyses", json=body()).json()["id"]
        answer = client.get(f"/v1/analyses/{analysis}/charts/gradient-flow.svg")
        assert answer.status_code == status


def test_layers_as_csv_by_a_link(client: TestClient, engine: FakeEngine) -> None:
    engine.outcome = succeed
    analysis = client.post("/v1/analyses", json=body()).json()["id"]
    answer = client.get(f"/v1/analyses/{analysis}/layers?format=csv", headers={"accept": BROWSER})
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"].endswith('.csv"')


@pytest.mark.parametrize("where", ["report", "charts/gradient-flow.svg"])
def test_reports_are_their_owners_and_need_read(
    ask: Any, client: TestClient, engine: FakeEngine, where: str
) -> None:
    ask(sick_report())
    engine.callers = {
        "gdx_other": Caller("other", frozenset(Scope), "1"),
        "gdx_write": Caller("local", frozenset({Scope.WRITE}), "2"),
    }
    for token, status in (("gdx_other", 404), ("gdx_write", 403), ("gdx_none", 401)):
        headers = {"authorization": f"Bearer {token}"}
        assert client.get(f"/v1/analyses/a1/{where}", headers=headers).status_code == status
