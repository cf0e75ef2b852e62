"""Makes the pictures for `scripts/pictures`: the demo as SVG, a waiting gate in Airflow's UI as PNG.

Both show the real thing: the output of `scripts/demo`, and the page of a real Airflow in a real browser.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rich.console import Console
from rich.text import Text

from airflow_provider_stability.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"

COLUMNS = 100
"""Of the terminal: about what a README shows in a readable size."""
STYLES = {
    r"^\$ .*|^\d+\. .*(?=  \[)|^A paid job.*|^Done.*": "bold",
    r"\[[\d.]+ s\]$|\d\d:\d\d:\d\d": "dim",
    r"[\d.]+ credits, need .* short .*": "yellow",
    r"[\d.]+ credits, need .*: open": "green",
}

DAG_FILE = Path(__file__).with_name("picture_dags") / "nightly_images.py"
LOG_LINE = "12.5 credits, need 40, short 27.5"
VIEWPORT = {"width": 1180, "height": 520}
GRID_WIDENING = 30  # pixels; the grid is too narrow to show its cells
PAGE_TIMEOUT = 60_000  # milliseconds
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def demo() -> Path:
    """Run the demo and draw its output as a terminal shows it."""
    output = subprocess.run(
        [ROOT / "scripts" / "demo"], check=True, stdout=subprocess.PIPE, encoding="utf-8"
    ).stdout
    text = Text(f"$ scripts/demo\n{output.rstrip()}")
    for pattern, style in STYLES.items():
        text.highlight_regex(re.compile(pattern, re.MULTILINE), style)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(
            record=True, width=COLUMNS, file=nowhere, color_system="truecolor", force_terminal=True
        )
        console.print(text)
    svg = console.export_svg(title="scripts/demo", unique_id="demo")
    # A picture in a README may load nothing, so the fonts are those of the reader.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    path = IMAGES / "demo.svg"
    path.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")
    return path


def gate() -> Path:
    """Take a screenshot of the log of a gate that waits in a triggerer."""
    sys.path.append(str(ROOT / "tests"))
    from support.standalone import Standalone  # noqa: PLC0415  # found since the line before

    path = IMAGES / "gate-waiting.png"
    with Simulator(credits=12.5) as simulator:
        connections = {"stability_default": simulator.connection()}
        with Standalone([DAG_FILE], connections=connections) as airflow:
            run = airflow.trigger(DAG_FILE.stem)
            airflow.wait_until(
                lambda: LOG_LINE in airflow.task_log(DAG_FILE.stem, "gate"), 120, "the gate to wait"
            )
            _screenshot(f"{airflow.url}/dags/{DAG_FILE.stem}/runs/{quote(run)}/tasks/gate", path)
    return path


def _screenshot(url: str, path: Path) -> None:
    sys.path.append(os.environ["PICTURES_TOOLS"])
    # Not installed where the types are checked.
    sync_playwright: Any = import_module("playwright.sync_api").sync_playwright
    with (
        tempfile.TemporaryDirectory(prefix="stability-pictures-") as profile,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=_chromium(),
            headless=True,
            args=CHROMIUM_FLAGS,
            viewport=VIEWPORT,
            device_scale_factor=1.5,
            color_scheme="light",
            timezone_id="UTC",
        )
        try:
            page = browser.pages[0]
            page.goto(url)
            page.get_by_text(LOG_LINE).last.wait_for(timeout=PAGE_TIMEOUT)
            # The grid loads by itself: this is the task that the gate holds back.
            page.locator('a[href*="/runs/"][href*="/tasks/generate"]').wait_for(timeout=PAGE_TIMEOUT)
            _widen_grid(page)
            page.screenshot(path=path)
        finally:
            browser.close()


def _widen_grid(page: Any) -> None:
    box = page.get_by_role("separator").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] - 20
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + GRID_WIDENING, y, steps=5)
    page.mouse.up()
    page.mouse.move(VIEWPORT["width"] - 5, y)


def _chromium() -> str:
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, filter(None, names))), None)
    if found is None:
        sys.exit(
            "No Chromium found. Install it (Debian: apt-get install chromium), or set CHROMIUM to its path."
        )
    return found


def main() -> None:
    """Make the pictures that the command line names, or all of them."""
    pictures: dict[str, Callable[[], Path]] = {"demo": demo, "gate": gate}
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or pictures:
        print(f"Making the picture of the {name} ...", flush=True)
        path = pictures[name]()
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
