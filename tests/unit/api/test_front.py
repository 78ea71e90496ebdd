"""The page that people land on, and the page of a trend."""

from __future__ import annotations

import json
import re
from pathlib import Path

import html5lib
import pytest
from fastapi.testclient import TestClient

from api.schemas.reading import read_analysis
from service.domain.api_keys import Caller, Scope
from tests.unit.api.bodies import body
from tests.unit.api.fake_engine import FakeEngine, succeed
from tests.unit.api.reports import Sketcher, sick_report, with_report

ROOT = Path(__file__).parents[3]
BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
HISTORY = "/v1/layers/history?layer=fc1&statistic=gradient.gain"


@pytest.fixture
def drawer(client: TestClient) -> Sketcher:
    sketcher = Sketcher()
    client.app.state.drawer = sketcher  # type: ignore[attr-defined]
    return sketcher


def test_the_front_page_is_valid_and_loads_from_here_alone(client: TestClient) -> None:
    page = client.get("/")
    html5lib.HTMLParser(strict=True).parse(page.text)
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self' 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"<style|<script(?! src=)| style=| on\w+=", page.text)
    for address in re.findall(r'<(?:script|link)[^>]+(?:src|href)="([^"]+)"', page.text):
        assert address.startswith("/assets/")
        assert client.get(address).status_code == 200


def test_what_stands_in_the_form_is_a_good_request(client: TestClient) -> None:
    html = html5lib.parse(client.get("/").text, namespaceHTMLElements=False)
    (form,) = [one for one in html.iter("form") if one.get("id") == "ask"]
    (area,) = list(form.iter("textarea"))
    assert read_analysis(json.loads(area.text or "")).model.spec
    # a browser without scripts sends the form so, with the file that was not chosen
    none = 'name="model"; filename=""\r\nContent-Type: application/octet-stream\r\n\r\n'
    parts = (none, f'name="request"\r\n\r\n{area.text}')
    sent = "".join(f"--b\r\nContent-Disposition: form-data; {part}\r\n" for part in parts)
    posted = client.post(
        form.get("action"),
        content=f"{sent}--b--\r\n".encode(),
        headers={"content-type": "multipart/form-data; boundary=b"},
    )
    assert posted.status_code == 200, posted.text


def test_every_example_is_offered_and_there(client: TestClient) -> None:
    offered = re.findall(r'<option value="([\w/]+)">', client.get("/").text)
    files = [*(ROOT / "examples").glob("*.json"), *(ROOT / "examples/seed_cases").glob("*.json")]
    assert len(offered) == sum('"model"' in one.read_text() for one in files) > 30
    for name in offered:
        assert client.get(f"/examples/{name}.json").json()["model"]


def test_a_report_without_a_key_is_asked_for_on_the_front_page(
    client: TestClient, engine: FakeEngine
) -> None:
    engine.callers = {"gdx_key": Caller("local", frozenset(Scope), "1")}
    opened = {**BROWSER, "sec-fetch-mode": "navigate"}
    there = client.get("/v1/analyses/a1/report", headers=opened, follow_redirects=False)
    assert (there.status_code, there.headers["location"]) == (303, "/#/v1/analyses/a1/report")
    for path, headers in (("a1/report", BROWSER), ("a1", opened), ("a1/layers", opened)):
        refused = client.get(f"/v1/analyses/{path}", headers=headers, follow_redirects=False)
        assert refused.status_code == 401
    assert client.get("/").status_code == 200
    assert client.get("/assets/front.js").status_code == 200


def test_a_trend_as_a_page(client: TestClient, engine: FakeEngine, drawer: Sketcher) -> None:
    for commit in ("0abc", "1abc", "<script>"):
        engine.outcome = succeed
        client.post("/v1/analyses", json=body(labels={"branch": "main", "commit": commit}))
    answer = client.get(f"{HISTORY}&label=branch:main", headers=BROWSER)
    assert answer.headers["content-type"].startswith("text/html")
    html5lib.HTMLParser(strict=True).parse(answer.text)
    assert "<script>" not in answer.text.split("</style>")[1].split("<script>")[0]
    (spec,) = drawer.specs
    (line,) = [part for part in spec["layer"] if part["mark"]["type"] == "line"]
    told = [(row["at"], row["value"]) for row in line["data"]["values"]]
    assert told == [("1 0abc", 0.19), ("2 1abc", 0.19), ("3 <script>", 0.19)]
    links = re.findall(r'href="(/v1/analyses/a\d/report)"', answer.text)
    assert links == [f"/v1/analyses/a{number}/report" for number in (1, 2, 3)]
    assert client.get(HISTORY).headers["content-type"] == "application/json"


def test_a_trend_of_nothing_says_so(client: TestClient, drawer: Sketcher) -> None:
    answer = client.get(f"{HISTORY}&label=branch:none", headers=BROWSER)
    assert answer.status_code == 200
    assert "No analysis" in answer.text
    assert drawer.specs == []


def test_a_trend_over_decades_is_logarithmic(
    client: TestClient, engine: FakeEngine, drawer: Sketcher
) -> None:
    for count in (3, 9):
        engine.outcome = with_report(sick_report(count))
        client.post("/v1/analyses", json=body())
    client.get("/v1/layers/history?layer=fc0&statistic=gradient.norm", headers=BROWSER)
    (spec,) = drawer.specs
    assert spec["layer"][-1]["encoding"]["y"]["scale"]["type"] == "log"
