"""A page of a sweep while it runs: at 127.0.0.1 alone, read-only, and gone with the sweep."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import TYPE_CHECKING

from etastar.errors import StorageError
from etastar.report.charts import Section
from etastar.report.page import page_text
from etastar.report.sections import section_of
from etastar.sources.stored_optima import read_store
from etastar.sweep import SweepResult
from etastar.sweep.storage.connection import shown_location

if TYPE_CHECKING:
    from typing_extensions import Self

_HOST = "127.0.0.1"
_LAST_LOOK = 8.0  # seconds that an open page is given to fetch how the sweep ended


class LivePage(ThreadingHTTPServer):
    """Serves what a store has so far, and never writes to it.

    How this works. A thread answers two paths: `/`, the report of the sweep with a script that
    asks again every two seconds, and `/main`, what of it may have changed. Both are drawn from the
    store, which other processes may fill, and again only when it has another number of runs.
    Requests that name another host are refused, so that no site elsewhere can read the page.

    Args:
        source: Path or URL of the sweep's store.
        name: Of the sweep in it.

    Raises:
        MissingExtraError: Plotly is not installed.
    """

    daemon_threads = False  # what is being sent is sent to its end

    def __init__(self, source: str, *, name: str = "sweep") -> None:
        self._source, self._name = source, name
        self._lock, self._drawn, self._num_runs = Lock(), "", -1
        self._asked, self._ended = 0.0, float("inf")
        page_text([], title="", live=True)  # what is missing is said before the sweep
        super().__init__((_HOST, 0), _Handler)
        self.hosts = tuple(f"{host}:{self.server_port}" for host in (_HOST, "localhost"))

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self.hosts[0]}/"

    def __enter__(self) -> Self:
        Thread(target=self.serve_forever, args=(0.1,), daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended = time.monotonic()
        while self._asked > time.monotonic() - _LAST_LOOK and self._asked < self._ended:
            time.sleep(0.05)
        self.shutdown()
        self.server_close()

    def text(self, path: str) -> str | None:
        """What stands at a path; None for nothing."""
        if path not in ("/", "/main"):
            return None
        with self._lock:
            began = time.monotonic()
            whole = self._page()
            self._asked = began
        return whole if path == "/" else whole.partition("<main>")[2].partition("</main>")[0]

    def _page(self) -> str:
        try:
            sweep = read_store(self._source, name=self._name).sweep
        except StorageError:  # not there yet, or not now
            sweep = SweepResult(())
        num_runs = len(sweep.trials)
        if num_runs > self._num_runs:
            section = section_of(sweep) if num_runs else Section("Sweep", {"runs": "none yet"})
            title = f"{self._name} in {shown_location(self._source)}"
            self._drawn = page_text([section], title=title, live=True)
            self._num_runs = num_runs
        return self._drawn


class _Handler(BaseHTTPRequestHandler):
    server: LivePage
    timeout = _LAST_LOOK  # of a connection that says nothing

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            self.send_error(403)
            return
        if (text := self.server.text(self.path)) is None:
            self.send_error(404)
            return
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing: the terminal is the sweep's."""
