"""The pages in a browser: a question asked, watched and answered; read without scripts, with a key,
without a network, by keyboard, and with hostile names in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from api.app import create_app
from service.config import Settings
from service.domain.api_keys import Caller, Scope
from service.domain.report import Report
from tests.e2e.browser import PROGRAM, Browser
from tests.unit.api.bodies import body
from tests.unit.api.fake_engine import FakeEngine
from tests.unit.api.reports import sick_report, with_report

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium here")

EVIL = "<script>window.hit=1</script><img src=x onerror=window.hit=1>{}"
HEADING = "document.querySelector('h1')?.textContent"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(tab: Browser) -> Iterator[Browser]:
    """The tab, with nothing told yet; what it complains of fails the test."""
    tab.events.clear()
    yield tab
    assert tab.complaints() == []


@pytest.fixture(scope="module")
def only_engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def engine(only_engine: FakeEngine) -> Iterator[FakeEngine]:
    """The one behind `address`, that wants no key."""
    yield only_engine
    only_engine.callers = {}


@pytest.fixture(scope="module")
def address(only_engine: FakeEngine) -> Iterator[str]:
    """Of the front door around the fake engine, with the real drawer."""
    config = uvicorn.Config(create_app(only_engine, Settings()), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def posted(address: str, engine: FakeEngine) -> Callable[[Report], str]:
    """Address of the report page of an analysis that ends so."""

    def post(made: Report) -> str:
        engine.outcome = with_report(made)
        told = httpx2.post(f"{address}/v1/analyses", json=body()).json()
        return f"{address}/v1/analyses/{told['id']}/report"

    return post


def test_asked_watched_answered(browser: Browser, server: str) -> None:
    browser.open(f"{server}/")
    browser.value("""(() => {
        const choice = document.getElementById('example');
        choice.value = 'healthy_mlp';
        choice.dispatchEvent(new Event('change'));
    })()""")
    browser.wait_for("document.getElementById('request').value.includes('healthy_mlp')")
    browser.value("document.querySelector('button.main').click()")
    browser.wait_for(f"{HEADING} === 'This model trains as it stands.'")
    assert browser.value("location.pathname").endswith("/report")
    assert browser.value("document.querySelectorAll('figure svg').length") >= 3
    browser.open(f"{server}/")
    browser.wait_for("document.querySelector('#recent td .badge.healthy')")


def test_a_wrong_request_is_told(browser: Browser, address: str) -> None:
    browser.open(f"{address}/")
    browser.value("document.getElementById('request').value = '{\"model\": {}}'")
    browser.value("document.querySelector('button.main').click()")
    browser.wait_for("document.getElementById('trouble').textContent.includes('/model/kind')")
    browser.events.clear()  # the refusal itself is an error in the browser's log


def test_without_scripts(browser: Browser, address: str, engine: FakeEngine) -> None:
    engine.outcome = with_report(sick_report())
    browser("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(f"{address}/")
        browser.value("document.querySelector('button.main').click()")
        browser.wait_for(f"{HEADING} === 'This model will not train as it stands.'")
        assert browser.value("document.querySelector('details').open") is False
        assert browser.value("document.querySelector('pre.code').innerText") == "init('fc0')"
    finally:
        browser("Emulation.setScriptExecutionDisabled", value=False)


def test_with_a_key(browser: Browser, address: str, engine: FakeEngine) -> None:
    engine.outcome = with_report(sick_report())
    analysis = httpx2.post(f"{address}/v1/analyses", json=body()).json()["id"]
    engine.callers = {"gdx_key": Caller("local", frozenset(Scope), "1")}
    browser.open(f"{address}/v1/analyses/{analysis}/report")
    browser.wait_for("document.getElementById('key')?.hidden === false")
    browser.value("document.getElementById('key-text').value = 'gdx_key'")
    browser.value("document.querySelector('#key button').click()")
    browser.wait_for(f"{HEADING} === 'This model will not train as it stands.'")
    assert browser.value("document.querySelectorAll('button.copy').length") == 1
    assert browser.value("[...Object.keys(localStorage)].length") == 0
    browser.value("document.querySelector('a[href=\"/\"]').click()")
    browser.wait_for("document.querySelector('#recent th a')")
    browser.value("document.querySelector('#recent th a').click()")
    browser.wait_for(f"{HEADING} === 'This model will not train as it stands.'")
    (refusal,) = browser.complaints()
    assert "401" in refusal
    browser.events.clear()  # a refusal is an error in the browser's log
    browser.value("sessionStorage.clear()")


def test_a_key_is_asked_for_once(browser: Browser, address: str, engine: FakeEngine) -> None:
    engine.outcome = with_report(sick_report())
    engine.callers = {"gdx_key": Caller("local", frozenset(Scope), "1")}
    browser.open(f"{address}/")
    browser.wait_for("document.getElementById('key')?.hidden === false")  # for the recent ones
    browser.value("document.querySelector('button.main').click()")
    browser.value("document.getElementById('key-text').value = 'gdx_key'")
    browser.value("document.querySelector('#key button').click()")
    browser.wait_for(f"{HEADING} === 'This model will not train as it stands.'")
    assert browser.value("sessionStorage.getItem('graddx-key')") == "gdx_key"
    browser.events.clear()  # refusals are errors in the browser's log
    browser.value("sessionStorage.clear()")


def test_names_of_layers_do_nothing(browser: Browser, posted: Any) -> None:
    browser.open(posted(sick_report(name=EVIL)))
    assert browser.value("window.hit") is None
    assert browser.value("document.querySelectorAll('img').length") == 0
    assert browser.value("document.querySelectorAll('figure svg').length") >= 3
    assert "<script>window." in browser.value("document.querySelector('figure svg').textContent")


def test_kept_as_a_file_it_needs_no_network(browser: Browser, posted: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_bytes(httpx2.get(f"{posted(sick_report())}?download=true").content)
    browser("Network.emulateNetworkConditions", offline=True, latency=0,
            downloadThroughput=-1, uploadThroughput=-1)  # fmt: skip
    try:
        browser.events.clear()
        browser.open(file.as_uri())
        browser.wait_for(f"{HEADING} === 'This model will not train as it stands.'")
        assert (
            browser.value("getComputedStyle(document.querySelector('.verdict')).borderLeftWidth")
            != "0px"
        )
        assert browser.value("document.querySelectorAll('button.copy').length") == 1
        assert {one for one in browser.requested() if not one.startswith("file:")} == set()
    finally:
        browser("Network.emulateNetworkConditions", offline=False, latency=0,
                downloadThroughput=-1, uploadThroughput=-1)  # fmt: skip


def test_code_is_copied(browser: Browser, posted: Any) -> None:
    browser(
        "Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"]
    )
    browser.open(posted(sick_report()))
    browser("Page.bringToFront")
    browser.value("document.querySelector('button.copy').click()")
    browser.wait_for("document.querySelector('button.copy').textContent === 'Copied'")


def test_by_keyboard(browser: Browser, posted: Any) -> None:
    browser.open(posted(sick_report()))
    browser("Page.bringToFront")
    browser.press("Tab")
    assert browser.value("document.activeElement.className") == "skip"
    for _ in range(60):
        browser.press("Tab")
        if browser.value("document.activeElement.tagName") == "SUMMARY":
            break
    browser.press("Enter")
    browser.wait_for("document.activeElement.parentElement.open")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_thousand_layers_fit(browser: Browser, posted: Any, scheme: str) -> None:
    browser.open(posted(sick_report(1000, fall=1.02)))
    browser(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
    )
    colour = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (colour == "rgb(255, 255, 255)") == (scheme == "light")
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert browser.value(wide), "nothing sticks out of the page"
    assert browser.value("document.documentElement.scrollHeight") < 9000
    line = browser.value(
        "getComputedStyle(document.querySelector('figure svg path[stroke=\"var(--c1)\"]')).stroke"
    )
    assert line == {"light": "rgb(194, 65, 12)", "dark": "rgb(251, 146, 60)"}[scheme]
    browser("Emulation.setEmulatedMedia", features=[])
