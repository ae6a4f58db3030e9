"""The page in Debian's Chromium, opened from its file."""

import shutil

import pytest

import etastar
from etastar.report import write_report
from etastar.sources.model_spec import capture_spec

pytestmark = pytest.mark.slow

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

    def open_page(path, *, width=1280, scheme="light"):
        size = {"width": width, "height": 900}
        contexts.append(browser.new_context(viewport=size, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.said = []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: page.said.append(dialog.message))
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri(), timeout=PATIENCE)
        assert asked == [path.as_uri()]
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
    assert len(marks) == 10
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


def test_two_thousand_runs_fit_into_six_megabytes(many_runs, tmp_path, opened):
    path = tmp_path / "runs.html"
    etastar.write_report(path, many_runs)
    assert len(many_runs.trials) == 2000
    assert path.stat().st_size < 6_000_000
    page = opened(path)
    assert page.locator(".chart").first.locator(".scatterlayer .point").count() > 2000
    assert page.said == []
