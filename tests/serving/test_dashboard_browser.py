"""The dashboard in a real browser: every page, bad files, models that are down or slow, the keyboard.

One server and one browser for all; how soon the first page is there is measured by the bench (`page`). Skipped only
where there is no Chromium (Debian: ``apt-get install chromium``).
"""

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import pytest
import requests
from PIL import Image

from pipelines.params import read_params
from serving.dashboard.data.collection import drugs
from serving.dashboard.data.words import what_it_does
from serving.login import KEYS
from tests.serving.browser_window import CHROMIUM, NO_CHROMIUM, chromium, first_page, streamlit
from tests.serving.dashboard_platform import IMAGES, RESPONSE, Platform, one_image
from tests.serving.test_login import make_key
from tests.training.tiny import ROOT

SCRIPT = ROOT / "serving" / "dashboard_server.py"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)
WAIT = 60_000  # milliseconds for what takes one on a busy core


@dataclass
class Window:
    page: Any
    url: str
    asked: list[str]


@pytest.fixture(scope="module")
def window(dashboard_platform: Platform) -> Iterator[Window]:
    with (
        chromium() as browser,
        streamlit(SCRIPT, dashboard_platform.folder, dashboard_platform.environment) as served,
        browser.new_context(viewport={"width": 1440, "height": 1000}, reduced_motion="reduce") as context,
    ):
        context.set_default_timeout(WAIT)
        page, asked = context.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        first_page(page, served.url)
        page.get_by_text("Production is version 1").wait_for(timeout=5 * WAIT)  # MLflow is imported: slow if busy
        yield Window(page, served.url, asked)


@pytest.fixture
def visit(window: Window) -> Iterator[Any]:
    """Give the window with a session of its own: what another test did is forgotten; no page may show an exception."""
    first_page(window.page, window.url)
    settle(window.page)
    yield window.page
    assert window.page.get_by_test_id("stException").count() == 0


def settle(page: Any) -> None:
    page.wait_for_timeout(250)
    page.wait_for_function(
        "() => document.querySelector('[data-testid=stApp]')?.getAttribute('data-test-script-state') === 'notRunning'"
    )


def predict(page: Any) -> None:
    page.get_by_role("button", name="Predict", exact=True).click()


def own_file(page: Any, path: Path) -> None:
    page.get_by_role("radio", name="Your own file").click()
    settle(page)
    page.locator("input[type=file]").first.set_input_files(str(path))
    settle(page)


def other_file(page: Any, path: Path) -> None:
    page.get_by_role("button", name=re.compile("Remove|Delete")).first.click()
    settle(page)
    own_file(page, path)


def downloaded(page: Any, button: str) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile(button)).first.click()
    return Path(download.value.path())


def table_of(page: Any, button: str) -> pd.DataFrame:
    return pd.read_csv(downloaded(page, button), encoding="utf-8-sig")


def choose(page: Any, label: str, option: str) -> None:
    box = page.get_by_role("combobox", name=re.compile(rf"\b{re.escape(label)}\b")).first
    box.click()
    box.fill(option)
    page.get_by_role("option", name=re.compile(re.escape(option), re.IGNORECASE)).first.click()
    settle(page)


def tab_to(page: Any, text: str, *, tag: str | None = None) -> None:
    look = "() => (e => [e.tagName, `${e.ariaLabel} ${e.innerText || e.placeholder}`])(document.activeElement)"
    seen: list[str] = []
    for _ in range(80):
        page.keyboard.press("Tab")
        found, called = page.evaluate(look)
        seen.append(called)
        if text in called and found != "MAIN" and found == (tag or found):  # MAIN is the whole page, to be scrolled
            return
    pytest.fail(f"Tab does not lead to {text}: {seen}")


def test_a_cell_line_is_asked_about_and_drugs_are_ranked(visit: Any, dashboard_platform: Platform) -> None:
    choose(visit, "Cell line", "simulated line 1")
    chosen = [drug.label for drug in drugs(dashboard_platform.folder / "data" / RESPONSE)[:2]]
    for label in chosen:
        choose(visit, "Drugs", label)
    visit.keyboard.press("Escape")
    visit.get_by_role("textbox", name=re.compile("Another molecule")).fill("CCO")
    visit.keyboard.press("Enter")
    settle(visit)
    predict(visit)
    visit.get_by_role("heading", name=re.compile("^Drugs for simulated line 1")).wait_for()
    for text in (
        "Production is version 1, MLP, since .* moved by A. Person",
        "Simulated data: nothing here is a result",
        r"on test data it did in 91\.0\s%\s\[85\.0,\s95\.0\]",
        "The prediction is the sum of the base",
    ):
        visit.get_by_text(re.compile(text)).first.wait_for()
    settle(visit)
    table = table_of(visit, "Download all 3 predictions as CSV")
    assert sorted(table["drug"]) == sorted([*chosen, "your molecule"])
    assert table["prediction"].is_monotonic_increasing and (table["low"] < table["high"]).sum() >= 2
    choose(visit, "Drug", "your molecule")
    visit.get_by_label(re.compile("^Contributions to the prediction for .* with your molecule")).first.wait_for()


def test_tables_are_uploaded_answered_or_refused_by_column(
    visit: Any, dashboard_platform: Platform, tmp_path: Path
) -> None:
    table = pd.read_parquet(dashboard_platform.folder / "data" / RESPONSE / "expression.parquet").head(3)
    table["cell_line_id"] = ["biopsy 1", "biopsy 2", "biopsy 3"]
    turned, example, bad, short = (tmp_path / f"{name}.csv" for name in ("turned", "example", "bad", "short"))
    table.set_index("cell_line_id").T.rename_axis("gene").to_csv(turned)
    own_file(visit, turned)
    visit.get_by_text("Expression: 3 samples, 30 features.").wait_for()
    visit.get_by_text("it was turned round").wait_for()
    predict(visit)
    visit.get_by_role("heading", name=re.compile("^Drugs for biopsy 1")).wait_for()
    choose(visit, "Sample", "biopsy 3")
    visit.get_by_role("heading", name=re.compile("^Drugs for biopsy 3")).wait_for()
    assert set(table_of(visit, "Download all .* predictions as CSV")["sample"]) == {*table["cell_line_id"]}
    shutil.copy(downloaded(visit, "Download an example file"), example)
    other_file(visit, example)
    visit.get_by_text("Expression: 2 samples, 30 features.").wait_for()
    bad.write_text("sample_id,SIMG0000,SIMG0001\nS1,1.5,high\n")
    other_file(visit, bad)
    visit.get_by_text("bad.csv, column SIMG0001, sample S1: “high” is not a number.").wait_for()
    short.write_text("sample_id,SIMG0000,SIMG0001\nS1,1.5,2\n")
    other_file(visit, short)
    predict(visit)
    visit.get_by_text(re.compile("The model cannot take this: “S1 with .*lacks .* features")).wait_for()
    visit.get_by_role("radio", name="From the data").click()
    settle(visit)
    assert visit.get_by_role("button", name="Predict", exact=True).is_enabled()


def test_while_an_endpoint_is_slow_every_page_is_gone_through_by_the_keyboard(visit: Any) -> None:
    """Tab leads from the top to the page's link, which Enter follows, and on to what the page is for."""
    choose(visit, "Model", "Staging")
    choose(visit, "Cell line", "simulated line 1")
    predict(visit)
    visit.get_by_text(re.compile("Asking the model at .* s$")).first.wait_for()
    pages = {"Compare": "Another model", "Registry": "Look again", "Monitoring": "Findings", "Glossary": "Search"}
    for name, reached in [*pages.items(), ("Predict", "Model")]:
        began = time.monotonic()
        visit.evaluate("() => document.activeElement.blur()")
        tab_to(visit, name, tag="A")
        visit.keyboard.press("Enter")
        visit.get_by_role("heading", name=name, exact=True).first.wait_for()
        settle(visit)
        tab_to(visit, reached)
        assert time.monotonic() - began < 60, name  # the endpoint would answer after 150 s
    visit.get_by_text(re.compile("Asking the model at .* s$")).first.wait_for()
    visit.get_by_role("button", name="Stop").click()
    visit.get_by_text("Stopped.").wait_for()


def test_an_image_is_named_and_shown_with_where_the_network_looked(visit: Any, tmp_path: Path) -> None:
    choose(visit, "Task", "Blood cell")
    visit.get_by_text(what_it_does(read_params(ROOT / "params.yaml").task(IMAGES)), exact=True).wait_for()
    settle(visit)
    good, broken = tmp_path / "cell.png", tmp_path / "broken.png"
    good.write_bytes(one_image())
    broken.write_bytes(one_image()[:200])
    own_file(visit, good)
    predict(visit)
    visit.get_by_role("img", name=re.compile("^Grad-CAM of cell.png")).wait_for()
    for said in ("Outlines of cell and nucleus", "What the model sees"):
        visit.get_by_role("img", name=f"{said}: cell.png").wait_for()
    with Image.open(downloaded(visit, "Download the Grad-CAM")) as overlay:
        assert overlay.format == "PNG" and min(overlay.size) >= 64
    assert table_of(visit, "Download 1 prediction as CSV")["sample"].tolist() == ["cell.png"]
    own_file(visit, broken)
    predict(visit)
    visit.get_by_text(re.compile("The model cannot take this: “broken.png”.*not an image")).wait_for()


def test_nothing_is_asked_of_any_other_machine(window: Window) -> None:
    elsewhere = {urlsplit(url).hostname for url in window.asked if url.startswith(("http", "ws"))}
    assert elsewhere == {"127.0.0.1"}


def test_pages_ask_for_a_key_where_a_login_is_set(window: Window, dashboard_platform: Platform, tmp_path: Path) -> None:
    """Chromium sends the key with the WebSocket too, over which the pages come."""
    key = make_key(tmp_path, "ada")
    environment = {**dashboard_platform.environment, KEYS: str(tmp_path / "api_keys")}
    with streamlit(SCRIPT, dashboard_platform.folder, environment) as served:
        for given in (None, ("ada", "wrong")):
            assert requests.get(served.url, auth=given, timeout=60).status_code == 401
        credentials = {"username": "ada", "password": key}
        with window.page.context.browser.new_context(http_credentials=credentials) as context:
            context.set_default_timeout(WAIT)
            first_page(context.new_page(), served.url)
