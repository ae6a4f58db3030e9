"""The page in Debian's Chromium, opened from its file."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import etastar
from etastar.report import write_report
from etastar.report.live_page import LivePage
from etastar.sources.model_spec import capture_spec
from etastar.sweep.storage import as_store

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
PATIENCE = 120_000  # milliseconds, on a busy machine
MARKS = ".scatterlayer .point, .scatterlayer .js-line, .heatmaplayer image"


@pytest.fixture(scope="module")
def browser():
    """Chromium, headless; it must not ask a network for anything."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright (extra dev)")
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium (Debian: chromium)")
    with playwright.sync_playwright() as started:
        program = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield program
        program.close()


@pytest.fixture
def opened(browser):
    """Open a file; what the page asked for, and what it complained of, is kept on it."""
    contexts = []

    def open_page(path, *, width=1280, scheme="light", alone=True):
        size = {"width": width, "height": 900}
        contexts.append(browser.new_context(viewport=size, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.said = []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: page.said.append(dialog.message))
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(path.as_uri(), timeout=PATIENCE)
        assert not alone or page.asked == [path.as_uri()]
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def everything(results, tmp_path_factory):
    path = tmp_path_factory.mktemp("browser") / "report.html"
    gpt = capture_spec("zoo:gpt", {"depth": 12})
    write_report(path, gpt, *results.values(), title="Everything")
    return path


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_every_figure_has_marks_and_nothing_is_complained_of(everything, opened, width, scheme):
    page = opened(everything, width=width, scheme=scheme)
    charts = page.locator(".chart")
    marks = charts.evaluate_all(f"all => all.map(one => one.querySelectorAll('{MARKS}').length)")
    assert len(marks) == 9
    assert all(marks)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 28)")
    assert page.said == []


def test_the_pointer_shows_numbers_of_a_figure(everything, opened):
    page = opened(everything)
    point = page.locator(".chart .scatterlayer .point").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.locator(".hoverlayer .hovertext").first.wait_for()
    assert page.said == []


def test_the_network_folds_by_keys_and_says_what_each_operation_is(tmp_path, opened):
    graph = capture_spec("zoo:gpt", {"depth": 12})
    write_report(tmp_path / "net.html", graph)
    page = opened(tmp_path / "net.html", width=390)
    assert page.locator(".node.lit").count() == graph.depth().effective_depth
    assert page.locator(".node:visible").count() == 3  # embedding, norm, head
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("summary:visible").count() == 13
    page.locator("summary").nth(1).click()
    assert page.locator(".node:visible").count() == 13
    qkv = page.locator(".node:visible", has_text="blocks.0.attn.qkv")
    qkv.hover()
    tip = page.locator("#tip")
    assert tip.inner_text().splitlines()[:2] == ["blocks.0.attn.qkv", "weight layer: addmm"]
    page.locator("[data-unfold]").click()
    assert page.locator(".node:visible").count() == page.locator(".node").count()
    page.locator("[data-unfold]").click()
    assert page.locator(".node:visible").count() == 3
    page.locator(".node:visible").last.focus()
    assert tip.inner_text().startswith("head")
    assert page.said == []


def test_names_with_scripts_quotes_and_300_letters_are_text(
    evil_name, evil_results, tmp_path, opened
):
    path = tmp_path / "evil.html"
    write_report(path, *evil_results, title=evil_name, command=evil_name)
    for width in (1280, 390):
        page = opened(path, width=width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("h1").inner_text() == evil_name
        assert page.locator("main script:not([type='application/json'])").count() == 0
        assert page.locator(".node").count() == 6
        assert page.said == []


@pytest.mark.parametrize("model", ["gpt", "resnet"])
def test_the_lit_path_is_as_long_as_the_network_is_deep_and_96_blocks_fold(model, tmp_path, opened):
    graph = capture_spec(f"zoo:{model}", {"depth": 96, "width": 16})
    write_report(tmp_path / "net.html", graph)
    page = opened(tmp_path / "net.html", scheme="dark")
    assert page.locator(".node.lit").count() == graph.depth().effective_depth
    assert page.locator(".node:visible").count() + page.locator("summary:visible").count() < 12
    page.locator("[data-unfold]").click()
    assert page.locator(".node:visible").count() == page.locator(".node").count() > 96
    assert page.said == []


def test_an_open_page_follows_the_store_and_keeps_how_the_sweep_ended(sweep, tmp_path, browser):
    def keep(trials):
        with as_store(tmp_path / "runs.log", name="sweep") as store:
            store.open({"model": "chain"})
            for trial in trials:
                store.begin(trial.size, [trial.point])
                store.finish(trial)

    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    with LivePage(str(tmp_path / "runs.log")) as live:
        page.goto(live.url, timeout=PATIENCE)
        assert page.locator("dd").filter(has_text="none yet").count() == 1
        keep(sweep.trials[:30])
        page.locator("dd", has_text=re.compile("^30$")).wait_for()
        page.locator(".chart .point").first.wait_for()
    page.locator("#live", has_text="has ended").wait_for()
    assert page.locator("dd", has_text=re.compile("^30$")).count() == 1
    assert errors == []
    page.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The documentation, built anew."""
    pytest.importorskip("furo", reason="no furo (extra docs)")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-q", DOCS, folder]
    subprocess.run(command, check=True)
    return folder


def test_the_built_documentation_asks_no_network_and_fits_every_screen(site, opened):
    pages = [page for page in sorted(site.rglob("*.html")) if "_static" not in page.parts]
    assert len(pages) > 30
    drawn = 0
    for number, path in enumerate(pages):
        width, scheme = (390, "dark") if number % 2 else (1280, "light")
        page = opened(path, width=width, scheme=scheme, alone=False)
        assert page.said == [], path.name
        assert all(url.startswith(("file:", "data:")) for url in page.asked), path.name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path.name
        sizes = page.locator("article img").evaluate_all("all => all.map(one => one.naturalWidth)")
        assert all(sizes), path.name
        drawn += len(sizes)
        page.context.close()
    assert drawn >= 10


def test_two_thousand_runs_fit_into_six_megabytes(many_runs, tmp_path, opened):
    path = tmp_path / "runs.html"
    etastar.write_report(path, many_runs)
    assert len(many_runs.trials) == 2000
    assert path.stat().st_size < 6_000_000
    page = opened(path)
    assert page.locator(".chart").first.locator(".scatterlayer .point").count() > 2000
    assert page.said == []
