"""The page of a sweep that runs: it shows what the store has, and to nobody else."""

import re
import socket
import urllib.error
import urllib.request

import pytest

from etastar.report.live_page import LivePage
from etastar.sweep.storage import as_store


def fetch(page, path="", **headers):
    request = urllib.request.Request(page.url + path, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


def keep(location, trials):
    with as_store(location, name="sweep") as store:
        store.open({"model": "<b>net</b>"})
        for trial in trials:
            store.begin(trial.size, [trial.point])
            store.finish(trial)


@pytest.fixture
def location(tmp_path):
    return str(tmp_path / "runs.log")


def test_the_page_grows_with_the_store_and_ends_with_the_sweep(sweep, location):
    with LivePage(location) as page:
        assert "none yet" in fetch(page, "main")
        keep(location, sweep.trials[:3])
        whole, main = fetch(page), fetch(page, "main")
        assert "plotly.js v" in whole
        assert main in whole
        assert "plotly.js v" not in main
        assert "<dd>3</dd>" in main
        assert "&lt;b&gt;net&lt;/b&gt;" in main
        keep(location, sweep.trials[3:5])
        assert "<dd>5</dd>" in fetch(page, "main")
        page.__dict__["_asked"] = 0.0  # nobody looks any more: it need not wait
    with pytest.raises(urllib.error.URLError):
        fetch(page)


def test_it_only_reads_and_only_here(sweep, location):
    keep(location, sweep.trials[:2])
    with open(location, "rb") as file:
        before = file.read()
    with LivePage(location) as page:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", page.url)
        fetch(page, "main")
        for path, headers in {
            "etc/passwd": {},
            "../main": {},
            "main": {"Host": "evil.example"},
        }.items():
            with pytest.raises(urllib.error.HTTPError) as refused:
                fetch(page, path, **headers)
            assert refused.value.code == (403 if headers else 404)
        for method in ("POST", "PUT", "DELETE"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(urllib.request.Request(page.url, b"x", method=method))
            assert refused.value.code == 501
            refused.value.close()
        page.__dict__["_asked"] = 0.0
    with open(location, "rb") as file:
        assert file.read() == before


def test_no_other_address_of_this_machine_answers(location):
    with LivePage(location) as page:
        port = int(page.url.rstrip("/").rpartition(":")[2])
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", port), timeout=5)
