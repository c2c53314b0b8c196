"""The dashboard in a real browser: every page, bad files, models that are down or slow, keyboard and contrast.

One server and one browser for all; how soon the first page is there is measured by the bench (`page`). Skipped only
where there is no Chromium (Debian: ``apt-get install chromium``).
"""

import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import pytest
from PIL import Image

from pipelines.params import read_params
from serving.dashboard.data.collection import drugs
from serving.dashboard.data.words import what_it_does
from tests.serving.browser_window import CHROMIUM, NO_CHROMIUM, chromium, first_page, streamlit
from tests.serving.dashboard_platform import IMAGES, RESPONSE, Platform, one_image
from tests.training.tiny import ROOT

SCRIPT = ROOT / "serving" / "dashboard_app.py"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)
WAIT = 60_000  # milliseconds for what takes one on a busy core

# Text that is too pale for what is behind it: contrast below 4.5, or 3 where it is large (WCAG 2.2, 1.4.3).
TOO_PALE = """() => {
  const rgba = (text) => {
    const m = text.match(/[\\d.]+/g).map(Number);
    const scale = text.startsWith('color(srgb') ? 255 : 1;
    return [m[0] * scale, m[1] * scale, m[2] * scale, m[3] ?? 1];
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const light = (c) => {
    const l = c.slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * l[0] + 0.7152 * l[1] + 0.0722 * l[2];
  };
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (element.closest('[disabled], [aria-disabled=true], script, style, [data-testid=stIconMaterial]')) continue;
    const box = element.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    const style = getComputedStyle(element), color = rgba(style.color);
    let opacity = 1;
    for (let e = element; e; e = e.parentElement) opacity *= Number(getComputedStyle(e).opacity);
    color[3] *= opacity;
    const under = ground(element), shown = over(color, under);
    const [high, low] = [light(shown), light(under)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${text.slice(0, 60)}`);
  }
  return found;
}"""


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
        browser.new_context(viewport={"width": 1440, "height": 1000}) as context,
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


def slowdown() -> float:
    """Return how many times longer than alone a program takes on this machine now, since others are at work."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, "-c", "import pandas"], check=True)
    took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return max(1.0, took / worked)


def settle(page: Any) -> None:
    page.wait_for_timeout(250)
    page.wait_for_function(
        "() => document.querySelector('[data-testid=stApp]')?.getAttribute('data-test-script-state') === 'notRunning'"
    )


def go(page: Any, name: str) -> None:
    page.get_by_test_id("stSidebarNavLink").filter(has_text=name).click()
    page.get_by_role("heading", name=name, exact=True).first.wait_for()
    settle(page)


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


def can_be_read(page: Any, seconds: float = 10) -> None:
    """Nothing stays too pale. What fades in, or is pale while it is drawn anew, has a while to get its colour."""
    for _ in range(round(seconds / 0.25)):
        if not (pale := page.evaluate(TOO_PALE)):
            return
        page.wait_for_timeout(250)
    assert pale == []


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
    can_be_read(visit)


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
    can_be_read(visit)
    short.write_text("sample_id,SIMG0000,SIMG0001\nS1,1.5,2\n")
    other_file(visit, short)
    predict(visit)
    visit.get_by_text(re.compile("The model cannot take this: “S1 with .*lacks .* features")).wait_for()
    visit.get_by_role("radio", name="From the data").click()
    settle(visit)
    assert visit.get_by_role("button", name="Predict", exact=True).is_enabled()


def test_a_slow_endpoint_holds_up_nobody(visit: Any) -> None:
    choose(visit, "Model", "Staging")
    choose(visit, "Cell line", "simulated line 1")
    predict(visit)
    visit.get_by_text(re.compile("Asking the model at .* s$")).first.wait_for()
    limit = 6 * slowdown()
    for name in ("Glossary", "Compare", "Registry", "Monitoring", "Predict"):
        began = time.monotonic()
        go(visit, name)
        assert time.monotonic() - began < limit, name
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
    can_be_read(visit)
    with Image.open(downloaded(visit, "Download the Grad-CAM")) as overlay:
        assert overlay.format == "PNG" and min(overlay.size) >= 64
    table = table_of(visit, "Download 1 prediction as CSV")
    assert table["sample"].tolist() == ["cell.png"]
    assert table.filter(like="probability_").sum(axis=1).tolist() == pytest.approx([1])
    own_file(visit, broken)
    predict(visit)
    visit.get_by_text(re.compile("The model cannot take this: “broken.png”.*not an image")).wait_for()


def test_every_page_is_read_and_gone_through_by_the_keyboard(visit: Any) -> None:
    """Tab leads from the top to the page's link, which Enter follows, and on to what the page is for."""
    pages = {"Compare": "Another model", "Registry": "Look again", "Monitoring": "Findings", "Glossary": "Search"}
    for name, reached in [*pages.items(), ("Predict", "Model")]:
        visit.evaluate("() => document.activeElement.blur()")
        tab_to(visit, name, tag="A")
        visit.keyboard.press("Enter")
        visit.get_by_role("heading", name=name, exact=True).first.wait_for()
        settle(visit)
        can_be_read(visit)
        tab_to(visit, reached)
    choose(visit, "Cell line", "simulated line 2")
    visit.get_by_role("combobox", name=re.compile("Task")).focus()
    tab_to(visit, "Predict", tag="BUTTON")
    visit.keyboard.press("Enter")
    visit.get_by_role("heading", name=re.compile("^Drugs for simulated line 2")).wait_for()


def test_nothing_is_asked_of_any_other_machine(window: Window) -> None:
    elsewhere = {urlsplit(url).hostname for url in window.asked if url.startswith(("http", "ws"))}
    assert elsewhere == {"127.0.0.1"}
