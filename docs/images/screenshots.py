"""Take the pictures of a report: python docs/images/screenshots.py STORE."""

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from etastar.report import write_report
from etastar.report.sections import sections_of

HERE = Path(__file__).parent


def main(store: str) -> None:
    """Pictures of the report of a sweep's store and of a network, each as small as it can be."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder, "report.html")
        network = sections_of("zoo:gpt", settings={"depth": 12})
        command = f"etastar report {Path(store).name} zoo:gpt --arg depth=12"
        write_report(page_file, *sections_of(store), *network, title="ResMLP", command=command)
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for width, height in ((1280, 900), (390, 844)):
            for scheme in ("light", "dark"):
                size = {"width": width, "height": height}
                page = browser.new_page(viewport=size, color_scheme=scheme)
                page.goto(page_file.as_uri(), timeout=120_000)
                page.wait_for_selector(".chart .point")
                if scheme == "dark":  # the network, its first block unfolded
                    page.locator("summary").first.click()
                    page.locator("summary").nth(1).click()
                    page.locator("section").last.evaluate("one => one.scrollIntoView()")
                elif width < 400:  # the first figure
                    page.locator(".panel").first.evaluate("one => one.scrollIntoView()")
                picture = Image.open(io.BytesIO(page.screenshot()))
                small = picture.convert("RGB").quantize(64)
                small.save(HERE / f"report_{width}_{scheme}.png", optimize=True)
                page.close()


if __name__ == "__main__":
    main(sys.argv[1])
