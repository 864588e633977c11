"""The page in headless Chromium: nothing in the console, nothing asked of a network, all there at 1280 and 390 pixels.

Needs chromium and chromedriver; accessibility is judged by axe-core, which `tools/test` fetches into .venv by npm.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import onnx_oto

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")
AXE = Path(
    os.environ.get("ONNX_OTO_AXE")
    or Path(__file__).resolve().parents[2] / ".venv" / "axe-core" / "package" / "axe.min.js"
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="no chromium with chromedriver: apt-get install chromium chromium-driver",
)
WIDTHS = (1280, 390)
LOOK = """
const box = (e) => e.getBoundingClientRect(), all = (q) => [...document.querySelectorAll(q)];
return {
    wide: document.documentElement.scrollWidth,
    headings: all("h2").map((e) => e.textContent),
    layers: document.querySelectorAll("#layers tbody tr").length,
    bars: all("#dimensions .bar i").filter((e) => box(e).width > 1).length,
    charts: all(".chart .field").filter((e) => box(e).width > 200 && box(e).height > 100).length,
    curves: all(".chart path[class^=c-]").filter((e) => e.getTotalLength() > 50).length,
    tiles: all(".tile").filter((e) => box(e).width > 20 && box(e).height > 10).length,
    cut: all("h1, h2, p, .tiles li, figcaption, dd").filter((e) => box(e).right > innerWidth + 1).length,
};
"""


class Page:
    """A page in a browser of its own width."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, width: int, scheme: str = "light") -> None:
        """Show a file, as wide as a screen is, in its colours."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.driver.get(path.as_uri())

    def run(self, script: str) -> Any:
        """Return what a script returns."""
        return self.driver.execute_script(script)

    def console(self) -> list[str]:
        """Return what was said on the console."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def asked(self) -> list[str]:
        """Return the addresses that were asked for, besides the page itself."""
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith("data:")][1:]

    def violations(self) -> list[str]:
        """Return what axe-core finds that is serious, or worse."""
        self.driver.execute_script(AXE.read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run().then((r) => done(r.violations), (e) => done([{id: String(e)}]))"
        )
        return [
            f"{each['id']}: {each.get('help')} ({each['nodes'][0]['html'][:120] if each.get('nodes') else ''})"
            for each in found
            if each.get("impact") in (None, "serious", "critical")
        ]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """Start the browser, once."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield Page(driver)
    driver.quit()


@pytest.fixture(scope="module")
def half(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of half a run."""
    folder = tmp_path_factory.mktemp("half") / "run"
    shutil.copytree(run, folder)
    for name in ("result.json", "compact.onnx", "trained.onnx"):
        (folder / name).unlink()
    return onnx_oto.report(folder).path or folder


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_of_a_run_is_there(page: Page, run: Path, width: int, scheme: str) -> None:
    page.open(run / "report.html", width, scheme)
    found = page.run(LOOK)
    assert page.console() == []
    assert page.asked() == []
    assert found["wide"] <= width
    assert found["cut"] == 0
    assert {"What was gained", "Verification", "Training", "Dimensions", "Layers", "The graph"} <= {
        *found["headings"]
    }
    assert (found["layers"], found["tiles"], found["charts"]) == (5, 5, 4)
    assert found["curves"] >= 7
    assert found["bars"] >= 2
    ground = page.run("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 20, 24)"}[scheme]


@pytest.mark.parametrize("width", WIDTHS)
def test_half_a_run_is_a_page_too(page: Page, half: Path, width: int) -> None:
    page.open(half, width)
    found = page.run(LOOK)
    assert (page.console(), page.asked()) == ([], [])
    assert found["wide"] <= width
    assert found["charts"] >= 3
    assert "half a run" in page.run("return document.querySelector('.notes').textContent")


def test_tables_sort_and_the_keyboard_reads_curves_and_boxes(page: Page, run: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    page.open(run / "report.html", 1280)
    names = "return [...document.querySelectorAll('#layers tbody th')].map((e) => e.dataset.v)"
    macs = (
        "return [...document.querySelectorAll('#layers tbody tr')].map((e) => Number(e.cells[5].dataset.v))"
    )
    before = page.run(names)
    head = page.driver.find_element(By.CSS_SELECTOR, "#layers th[data-column='5'] button")
    head.click()
    assert page.run(macs) == sorted(page.run(macs), reverse=True)
    head.send_keys(Keys.ENTER)
    assert page.run(macs) == sorted(page.run(macs))
    assert page.run("return document.querySelector('#layers th[data-column=\"5\"]').ariaSort") == "ascending"
    assert sorted(page.run(names)) == sorted(before)

    plot = page.driver.find_element(By.CSS_SELECTOR, "[data-chart=loss] .plot")
    plot.send_keys(Keys.HOME)
    first = plot.get_attribute("aria-valuetext")
    plot.send_keys(Keys.END)
    assert first != plot.get_attribute("aria-valuetext")
    assert "epoch 8 (step 48)" in str(plot.get_attribute("aria-valuetext"))

    page.driver.find_element(By.CSS_SELECTOR, ".tile").send_keys(Keys.END)
    told = page.driver.find_element(By.CSS_SELECTOR, ".told").text
    assert "frozen: it is part of the model's output 'logits'" in told
    assert page.run("return document.activeElement.classList.contains('frozen')")
    assert page.run("return document.querySelectorAll('.tile[tabindex=\"0\"]').length") == 1

    page.driver.find_element(By.CSS_SELECTOR, ".theme").click()
    assert page.run("return getComputedStyle(document.body).backgroundColor") == "rgb(17, 20, 24)"
    assert page.console() == []
    page.run("localStorage.clear()")


@pytest.mark.skipif(
    not AXE.is_file(), reason="no axe-core: `npm pack axe-core`, and ONNX_OTO_AXE names its axe.min.js"
)
def test_axe_finds_nothing_serious(page: Page, run: Path, half: Path, folder: Path) -> None:
    onnx_oto.inspect(folder / "net.onnx", graph=folder / "graph.html")
    whole = run / "report.html"
    for path, width, scheme in (
        (whole, 1280, "light"), (whole, 1280, "dark"), (whole, 390, "dark"), (half, 390, "light"),
        (folder / "graph.html", 1280, "dark"),
    ):  # fmt: skip
        page.open(path, width, scheme)
        page.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert page.violations() == [], (path, width, scheme)
