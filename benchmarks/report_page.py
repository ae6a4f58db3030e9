"""How long a report of 2,000 runs takes to write and to open, and how large it is.

    python benchmarks/report_page.py

Chromium is asked for its first paint with all marks drawn; without it the page is only written.
"""

import shutil
import tempfile
import time
from pathlib import Path

from etastar.report import write_report
from etastar.sweep import SweepResult
from etastar.sweep.recipe import Point
from etastar.sweep.result import SizeResult, size_optimum
from etastar.sweep.trial import TrialRecord


def sweep(num_steps: int = 200) -> SweepResult:
    """Parabolas in log lr at four depths, 50 rates, ten seeds, with their loss curves."""
    results = []
    for depth in (1, 2, 4, 8):
        runs = []
        for k in range(50):
            for seed in range(10):
                loss = 1 + (k / 10 - 2 + 0.45 * depth.bit_length()) ** 2 + 0.01 * seed
                point, size = Point(10 ** (k / 10 - 4), seed), (("depth", depth),)
                runs.append(TrialRecord(size, point, loss, (loss,) * num_steps, False, 200, loss))
        results.append(SizeResult(runs[0].size, tuple(runs), size_optimum(runs)))
    return SweepResult(tuple(results), (("optimizer", "sgd"),), (("name", "grid"),))


def opened(path: Path) -> None:
    """Open the page in Debian's Chromium and print when its marks are there."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        metrics = page.context.new_cdp_session(page)
        metrics.send("Performance.enable")
        start = time.perf_counter()
        page.goto(path.as_uri(), timeout=120_000)
        page.wait_for_selector(".chart .point", timeout=120_000)
        marks = page.locator(".chart .point").count()
        found = metrics.send("Performance.getMetrics")["metrics"]
        busy = next(one["value"] for one in found if one["name"] == "ThreadTime")
        took = time.perf_counter() - start
        print(f"opened in {took:.2f} s ({busy:.2f} s of the processor) with {marks:,} marks")


def main() -> None:
    """Write the page twice: the first time Plotly and Jinja are imported too."""
    result = sweep()
    print(f"{len(result.trials):,} runs")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "runs.html")
        for what in ("the first", "the second"):
            start, busy = time.perf_counter(), time.process_time()
            write_report(path, result)
            took, busy = time.perf_counter() - start, time.process_time() - busy
            print(f"{what} written in {took:.2f} s ({busy:.2f} s of the processor)")
        print(f"{path.stat().st_size / 1e6:.2f} MB")
        if shutil.which("chromium"):
            opened(path)


if __name__ == "__main__":
    main()
