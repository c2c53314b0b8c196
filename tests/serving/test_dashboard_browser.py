"""The dashboard in a real browser: every page, bad files, models that are down or slow, keyboard and contrast.

One server and one browser for all; how soon the first page is there is measured by the bench (`page`). Skipped only
where there is no Chromium (Debian: ``apt-get install chromium``).
"""

from __future__ import annotations

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
from pipelines.policy import CHECKS
from serving.dashboard.data.collection import drugs
from serving.dashboard.data.glossary import means, what_it_does
from tests.serving.browser_window import CHROMIUM, NO_CHROMIUM, chromium, first_page, streamlit
from tests.serving.dashboard_platform import (
    IMAGES,
    LABELS,
    RESPONSE,
    UNSERVED,
    Platform,
    one_image,
)
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


# Whether one sees which element the keyboard is at: it, or the box around it, looks different without the focus.
FOCUS_IS_SEEN = """async () => {
  const focused = document.activeElement;
  const look = () => {
    let seen = '';
    for (let e = focused, up = 0; e && up < 5; e = e.parentElement, up++) {
      const style = getComputedStyle(e);
      seen += [style.boxShadow, style.outline, style.borderColor, style.backgroundColor, style.color].join(' ') + '; ';
    }
    return seen;
  };
  const faded = () => new Promise((done) => setTimeout(done, 400));
  await faded();
  const at = look();
  focused.blur();
  await faded();
  const away = look();
  focused.focus({ focusVisible: true });
  return at !== away;
}"""


@dataclass
class Window:
    """The one window, and what it asked for."""

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
def visit(window: Window) -> Any:
    """Give the window with a session of its own: what another test did is forgotten."""
    first_page(window.page, window.url)
    settle(window.page)
    return window.page


def slowdown() -> float:
    """Return how many times longer than alone a program takes on this machine now, since others are at work."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, "-c", "import pandas"], check=True)
    took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return max(1.0, took / worked)


def settle(page: Any) -> None:
    """Wait until Streamlit has drawn what it was asked for; it takes a moment to hear of it."""
    page.wait_for_timeout(250)
    page.wait_for_function(
        "() => document.querySelector('[data-testid=stApp]')?.getAttribute('data-test-script-state') === 'notRunning'"
    )


def go(page: Any, name: str) -> None:
    page.get_by_test_id("stSidebarNavLink").filter(has_text=name).click()
    page.get_by_role("heading", name=name, exact=True).first.wait_for()
    settle(page)


def choose(page: Any, label: str, option: str) -> None:
    box = page.get_by_role("combobox", name=re.compile(rf"\b{re.escape(label)}\b")).first
    box.click()
    box.fill(option)
    page.get_by_role("option", name=re.compile(re.escape(option), re.IGNORECASE)).first.click()
    settle(page)


def of_task(page: Any, task: str) -> None:
    """Choose a task, and wait until the page speaks of it: the page before may have boxes of the same names."""
    choose(page, "Task", task.replace("_", " ").capitalize())
    if page.get_by_role("heading", name="Predict", exact=True).count():
        page.get_by_text(what_it_does(read_params(ROOT / "params.yaml").task(task)), exact=True).wait_for()
        settle(page)


def predict(page: Any) -> None:
    page.get_by_role("button", name="Predict", exact=True).click()


def own_file(page: Any, *paths: Path) -> None:
    page.get_by_role("radio", name="Your own file").click()
    settle(page)
    page.locator("input[type=file]").first.set_input_files([str(path) for path in paths])
    settle(page)


def chart(page: Any, text: str) -> None:
    """Wait for the chart whose text, for who cannot see it, begins so."""
    page.get_by_label(re.compile(f"^{re.escape(text)}")).first.wait_for()


def downloaded(page: Any, button: str) -> Path:
    """Press a button that downloads; return what came."""
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile(button)).first.click()
    return Path(download.value.path())


def table_of(page: Any, button: str) -> pd.DataFrame:
    """Press a button that downloads a table; return it."""
    return pd.read_csv(downloaded(page, button), encoding="utf-8-sig")


def unfolded(page: Any, called: str, place: int = 0) -> Any:
    """Open the box that is called so, and return it."""
    box = page.get_by_test_id("stExpander").filter(has_text=called).nth(place)
    for _ in range(5):  # a click that meets the box while it is drawn anew is lost, as a person's would be
        box.get_by_text(called).click()
        settle(page)
        if box.locator("details[open]").count():
            return box
    pytest.fail(f"the box {called} does not open")


def numbers(page: Any, opens: str, table: str, place: int = 0) -> pd.DataFrame:
    """Open the table beside a chart, which is called so, and return what is downloaded below it."""
    box = unfolded(page, opens, place)
    box.get_by_label(table).first.wait_for()
    settle(page)  # a button that is drawn anew while it is pressed downloads nothing
    with page.expect_download() as download:
        box.get_by_role("button", name="Download as CSV", exact=True).click()
    return pd.read_csv(download.value.path(), encoding="utf-8-sig")


def can_be_read(page: Any, seconds: float = 10) -> None:
    """Nothing stays too pale. What fades in, or is pale while it is drawn anew, has a while to get its colour."""
    for _ in range(round(seconds / 0.25)):
        if not (pale := page.evaluate(TOO_PALE)):
            return
        page.wait_for_timeout(250)
    assert pale == []


def tab_to(page: Any, text: str, *, tag: str | None = None) -> None:
    """Press Tab until what has the focus is called so."""
    seen: list[str] = []
    for _ in range(80):
        page.keyboard.press("Tab")
        found, called = page.evaluate(
            """() => {
              const e = document.activeElement;
              const label = e.getAttribute('aria-label') || '';
              const own = (e.innerText || e.placeholder || '').trim();
              return [e.tagName, `${label} ${own}`];
            }"""
        )
        seen.append(called)
        if text in called and found != "MAIN" and found == (tag or found):  # MAIN is the whole page, to be scrolled
            return
    pytest.fail(f"Tab does not lead to {text}: {seen}")


def no_fault_of_the_page(page: Any) -> None:
    assert page.get_by_test_id("stException").count() == 0


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
    visit.get_by_text(re.compile("Production is version 1, MLP, since .* moved by A. Person")).wait_for()
    visit.get_by_text("Simulated data: nothing here is a result").first.wait_for()
    visit.get_by_text(re.compile(r"on test data it did in 91\.0\s%\s\[85\.0,\s95\.0\]")).wait_for()
    visit.get_by_text(re.compile("The prediction is the sum of the base")).wait_for()
    chart(visit, "Predicted ln IC50 (µM) of ")
    settle(visit)
    table = table_of(visit, "Download all 3 predictions as CSV")
    assert sorted(table["drug"]) == sorted([*chosen, "your molecule"])
    assert table["prediction"].is_monotonic_increasing and (table["low"] < table["high"]).sum() >= 2
    choose(visit, "Drug", "your molecule")
    visit.get_by_label(re.compile("^Contributions to the prediction for .* with your molecule")).first.wait_for()
    unfolded(visit, "How good is version 1")
    visit.get_by_text(re.compile(r"Margin \+0\.200\s\[\+0\.100,\s\+0\.300\]")).wait_for()
    can_be_read(visit)
    no_fault_of_the_page(visit)


def test_uploads_are_read_and_answered(visit: Any, dashboard_platform: Platform, tmp_path: Path) -> None:
    table = pd.read_parquet(dashboard_platform.folder / "data" / RESPONSE / "expression.parquet").head(3)
    table["cell_line_id"] = ["biopsy 1", "biopsy 2", "biopsy 3"]
    table.set_index("cell_line_id").T.rename_axis("gene").to_csv(tmp_path / "three.csv")
    own_file(visit, tmp_path / "three.csv")
    visit.get_by_text("Expression: 3 samples, 30 features.").wait_for()
    visit.get_by_text("it was turned round").wait_for()
    predict(visit)
    visit.get_by_role("heading", name=re.compile("^Drugs for biopsy 1")).wait_for()
    choose(visit, "Sample", "biopsy 3")
    visit.get_by_role("heading", name=re.compile("^Drugs for biopsy 3")).wait_for()
    answered = table_of(visit, "Download all .* predictions as CSV")
    assert set(answered["sample"]) == {"biopsy 1", "biopsy 2", "biopsy 3"}
    example = tmp_path / "example.csv"
    shutil.copy(downloaded(visit, "Download an example file"), example)
    visit.get_by_role("button", name=re.compile("Remove|Delete")).first.click()
    settle(visit)
    visit.locator("input[type=file]").first.set_input_files(str(example))
    visit.get_by_text("Expression: 2 samples, 30 features.").wait_for()
    no_fault_of_the_page(visit)


def test_a_bad_upload_is_told_and_the_page_lives(visit: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("sample_id,SIMG0000,SIMG0001\nS1,1.5,high\n")
    own_file(visit, bad)
    visit.get_by_text("bad.csv, column SIMG0001, sample S1: “high” is not a number.").wait_for()
    can_be_read(visit)
    short = tmp_path / "short.csv"
    short.write_text("sample_id,SIMG0000,SIMG0001\nS1,1.5,2\n")
    visit.get_by_role("button", name=re.compile("Remove|Delete")).first.click()
    settle(visit)
    own_file(visit, short)
    predict(visit)
    visit.get_by_text(re.compile("The model cannot take this: “S1 with .*lacks .* features")).wait_for()
    visit.get_by_role("radio", name="From the data").click()
    settle(visit)
    assert visit.get_by_role("button", name="Predict", exact=True).is_enabled()
    no_fault_of_the_page(visit)


def test_an_endpoint_that_is_down_is_told_with_the_command_that_starts_it(visit: Any) -> None:
    choose(visit, "Model", "Previous")
    choose(visit, "Cell line", "simulated line 1")
    predict(visit)
    visit.get_by_text(re.compile("No model answers at 127.0.0.1")).wait_for()
    visit.get_by_text(re.compile("make serve TASK=drug_response STAGE=previous PORT=")).wait_for()
    no_fault_of_the_page(visit)


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
    no_fault_of_the_page(visit)


def test_an_image_is_named_and_shown_with_where_the_network_looked(visit: Any, tmp_path: Path) -> None:
    of_task(visit, IMAGES)
    good, broken = tmp_path / "cell.png", tmp_path / "broken.png"
    good.write_bytes(one_image())
    broken.write_bytes(one_image()[:200])
    own_file(visit, good)
    predict(visit)
    visit.get_by_role("img", name=re.compile("^Grad-CAM of cell.png")).wait_for()
    chart(visit, "Probabilities of the classes")
    can_be_read(visit)
    with Image.open(downloaded(visit, "Download the Grad-CAM")) as overlay:
        assert overlay.format == "PNG" and min(overlay.size) >= 64
    table = table_of(visit, "Download 1 prediction as CSV")
    assert table["sample"].tolist() == ["cell.png"] and table["probability"].between(0, 1).all()
    of_classes = table[[f"probability_{label}" for label in ("blue", "green", "red")]]
    assert of_classes.sum(axis=1).tolist() == pytest.approx([1])
    shown = numbers(visit, "The numbers of this chart", "Probability of each class of the image cell.png")
    assert shown["probability"].tolist() == sorted(of_classes.iloc[0], reverse=True)
    own_file(visit, broken)
    predict(visit)
    visit.get_by_text(re.compile("The model cannot take this: “broken.png”.*not an image")).wait_for()
    no_fault_of_the_page(visit)


def test_architectures_are_compared_with_intervals(visit: Any) -> None:
    go(visit, "Compare")
    visit.get_by_text("Simulated data: nothing here is a result").first.wait_for()
    board = visit.get_by_role("table", name=re.compile("^Leaderboard of drug_response"))
    assert re.search(
        r"Elastic net.*0\.860\s\[0\.840,\s0\.880\].*\+0\.160\s\[\+0\.130,\s\+0\.190\]", board.inner_text(), re.S
    )
    for text in (
        "R² of 3 architectures",
        "R² with intervals of 3 architectures over",
        "Features that move Elastic net",
    ):
        chart(visit, text)
    board = table_of(visit, "Download the leaderboard as CSV")
    assert board["architecture"].tolist() == ["elastic_net", "mlp", "mean_effects"]
    assert ((board["low"] < board["value"]) & (board["value"] < board["high"])).all()
    costs = numbers(visit, "The numbers of this chart", "R² and time to answer one row (ms)")
    assert costs["R² [95 %]"].str.contains(r"\[.*\]").all()
    features = numbers(visit, "The numbers of this chart", "Features that move Elastic net most", place=1)
    assert len(features) == 12
    choose(visit, "Another model", "Elastic net")
    visit.get_by_text("12 of the top 12 are named by both").wait_for()
    of_task(visit, UNSERVED)
    visit.get_by_text(re.compile("no model of leukemia_cell is evaluated yet")).wait_for()
    no_fault_of_the_page(visit)


def test_the_registry_tells_who_put_what_where_and_why(visit: Any) -> None:
    go(visit, "Registry")
    visit.get_by_text(re.compile("Production since .*, promoted by A. Person: “the tests”")).wait_for()
    gate = visit.get_by_role("table", name="Checks of the gate and their results")
    assert re.search(r"Simulated\s+\S*\s*waived", gate.inner_text())
    assert gate.get_by_role("row").count() == len(CHECKS) + 1
    link = visit.get_by_role("link", name="Version in MLflow").get_attribute("href")
    assert link == "http://127.0.0.1:5000/#/models/drug_response/versions/1"
    visit.get_by_role("tab", name="Model card").click()
    visit.get_by_role("heading", name="drug_response: mlp").wait_for()
    visit.get_by_role("heading", name="Limitations").wait_for()
    unfolded(visit, "History, 4 rows")
    visit.get_by_role("table", name=re.compile("^History")).wait_for()
    no_fault_of_the_page(visit)


def test_drift_is_shown_over_time(visit: Any) -> None:
    go(visit, "Monitoring")
    visit.get_by_text("Time to train again.").wait_for()
    visit.get_by_text(re.compile(r"40\.0\s%\s\[20\.0,\s60\.0\]")).first.wait_for()
    chart(visit, "Share of samples unlike the training data in 2 reports")
    reports = table_of(visit, "Download the reports as CSV")
    assert reports["share"].tolist() == [0.02, 0.4]
    visit.get_by_text("Reports that cannot be read: 2026-11-20T16-55-12-258605Z.").wait_for()
    of_task(visit, LABELS)
    visit.get_by_text("There is no report on Tumor type yet").wait_for()
    no_fault_of_the_page(visit)


def test_a_word_is_explained_on_hover(visit: Any) -> None:
    for page, word, key in (("Predict", "Model", "endpoint"), ("Compare", "Leaderboard", "confidence_interval")):
        go(visit, page)
        beside = visit.get_by_test_id("stWidgetLabel" if page == "Predict" else "stHeadingWithActionElements")
        beside.filter(has_text=re.compile(f"^{word}")).first.get_by_test_id("stTooltipHoverTarget").hover()
        visit.get_by_test_id("stTooltipContent").filter(has_text=means(key)).wait_for()
        can_be_read(visit)
        visit.mouse.move(5, 5)


def test_every_page_is_read_and_gone_through_by_the_keyboard(visit: Any) -> None:
    """Tab leads from the top to the page's link, which Enter follows, and on to what the page is for."""
    pages = {
        "Compare": "Another model",
        "Registry": "Look again",
        "Monitoring": "Findings",
        "Glossary": "Search",
        "Predict": "Model",
    }
    for name, reached in pages.items():
        visit.evaluate("() => document.activeElement.blur()")
        tab_to(visit, name, tag="A")
        visit.keyboard.press("Enter")
        visit.get_by_role("heading", name=name, exact=True).first.wait_for()
        settle(visit)
        can_be_read(visit)
        tab_to(visit, reached)
        assert visit.evaluate(FOCUS_IS_SEEN), name
        no_fault_of_the_page(visit)
    choose(visit, "Cell line", "simulated line 2")
    visit.get_by_role("combobox", name=re.compile("Task")).focus()
    tab_to(visit, "Predict", tag="BUTTON")
    assert visit.evaluate(FOCUS_IS_SEEN)
    visit.keyboard.press("Enter")
    visit.get_by_role("heading", name=re.compile("^Drugs for simulated line 2")).wait_for()


def test_nothing_is_asked_of_any_other_machine(window: Window) -> None:
    elsewhere = {urlsplit(url).hostname for url in window.asked if url.startswith(("http", "ws"))}
    assert elsewhere == {"127.0.0.1"}
