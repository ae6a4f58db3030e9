"""The page as a file: what is in it, and that nothing else is needed."""

import json
import re
import sys
from html.parser import HTMLParser
from importlib.metadata import version

import pytest
import torch
from torch import nn

import etastar
from etastar.errors import MissingExtraError, ReportError, StorageError
from etastar.report import write_report

LOADS = {"src", "href", "srcset", "data", "poster", "action", "background"}


class Page(HTMLParser):
    """Tags, what they would load, the text of scripts, and all other text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.scripts, self.text, self._open = [], [], [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._open = tag
        self.loads += [value for name, value in attributes if name in LOADS]
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self._open == "script":
            self.scripts[-1] += data
        else:
            self.text += data

    def handle_endtag(self, tag):
        self._open = ""


@pytest.fixture(scope="module")
def written(results, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    etastar.write_report(path, *results.values(), title="All of it", command="python all.py -k 3")
    return path


def test_the_page_loads_nothing_and_has_plotly_once(written):
    text = written.read_text()
    assert len(text) < 6_000_000
    page = Page(text)
    assert all(load.startswith(("#", "data:,")) for load in page.loads)
    assert not {"img", "iframe", "object", "embed"} & set(page.tags)
    assert sum("plotly.js v" in script for script in page.scripts) == 1
    assert "default-src 'none'" in text
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style


def test_a_table_stands_beside_every_figure(written):
    page = Page(written.read_text())
    figures = [json.loads(script) for script in page.scripts if script.startswith('{"data"')]
    assert len(figures) == page.tags.count("figure") == 9
    assert page.tags.count("table") > len(figures)


def test_title_command_versions_and_seeds_are_said(written):
    text = Page(written.read_text()).text
    for said in ("All of it", "python all.py -k 3", f"torch {version('torch')}", "0, 1, 2"):
        assert said in text


def test_a_network_alone_needs_no_plotly(tmp_path):
    graph = etastar.capture_graph(nn.Linear(4, 2), torch.zeros(1, 4))
    write_report(tmp_path / "net.html", graph)
    assert (tmp_path / "net.html").stat().st_size < 30_000


def test_names_are_escaped_everywhere(evil_name, evil_results, tmp_path):
    write_report(tmp_path / "evil.html", *evil_results, title=evil_name, command=evil_name)
    page = Page((tmp_path / "evil.html").read_text())
    assert not any(script.startswith("alert(") for script in page.scripts)
    assert "b" not in page.tags
    assert page.text.count(evil_name) >= 4


def test_bad_input_is_told_before_anything_is_written(sweep, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    with pytest.raises(ReportError, match="no result"):
        write_report(path)
    with pytest.raises(ReportError):
        write_report(path, sweep, 3)
    with pytest.raises(StorageError):
        write_report(tmp_path / "none" / "report.html", sweep)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[plotly\]"):
        write_report(path, sweep)
    assert not path.exists()
