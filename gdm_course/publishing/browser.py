"""A headless Chromium without a network, to look at a notebook as a student does.

with jupyterlab(folder) as address, page() as (view, log):
    open_notebook(view, address, "densities.ipynb")
    run_all(view)
    screenshots(view, Path("build/figures"))
    print(log.errors, log.outside)
"""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CURRENT = "window.jupyterapp.shell.currentWidget"


@dataclass
class Log:
    """What a page complained about, and what it asked of other machines (in vain)."""

    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


def chromium() -> str | None:
    """Path of an installed Chromium or Chrome, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def page(width: int = 1280, height: int = 900) -> Iterator[tuple]:
    """Open a fresh browser profile.

    Yields:
        (page, log): playwright's page, and the `Log` it fills. Requests that leave this
        machine are refused.
    """
    from playwright.sync_api import sync_playwright

    log = Log()
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=chromium(),
            args=FLAGS,
            viewport={"width": width, "height": height},
        )
        context.route("**/*", lambda route: _only_local(route, log))
        view = context.new_page()
        view.on("pageerror", lambda error: log.errors.append(str(error)))
        view.on("console", lambda message: _note(message, log))
        try:
            yield view, log
        finally:
            context.close()


def _only_local(route, log: Log) -> None:
    host = urlsplit(route.request.url).hostname
    if host in (None, "", "127.0.0.1", "localhost"):
        return route.continue_()
    log.outside.append(route.request.url)
    return route.abort()


def _note(message, log: Log) -> None:
    if message.type == "error":
        log.errors.append(message.text)


def open_notebook(view, address: str, name: str) -> None:
    """Open a notebook and wait until its kernel is ready."""
    view.goto(address.format(f"lab/tree/{name}"))
    view.wait_for_function(
        f"window.jupyterapp && {CURRENT}?.sessionContext", timeout=90_000
    )
    view.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
    patiently(
        view, f"{CURRENT}.sessionContext.ready", 60
    )  # a kernel dialog blocks for ever
    patiently(view, f"{CURRENT}.sessionContext.session.kernel.info.then(() => 1)", 60)


def patiently(view, promise: str, patience: float):
    """Evaluate a promise of the page; raises playwright's Error when it takes longer."""
    late = f"not done after {patience} s: {promise}"
    return view.evaluate(
        f"""Promise.race([{promise}, new Promise((_, fail) =>
            setTimeout(() => fail(new Error({json.dumps(late)})), {1000 * patience}))])"""
    )


def run_all(view, patience: float = 300) -> list[str]:
    """Run all cells; returns the errors that cells ended with."""
    command = "window.jupyterapp.commands.execute('notebook:run-all-cells')"
    patiently(view, command, patience)
    return view.evaluate(
        f"""[...{CURRENT}.content.model.cells].flatMap(cell =>
            (cell.sharedModel.toJSON().outputs || [])
              .filter(out => out.output_type === 'error')
              .map(out => `${{out.ename}}: ${{out.evalue}}`))"""
    )


def slide(view, index: int = 0, key: str = "ArrowRight", timeout: int = 30_000) -> tuple:
    """Move one slider by a key of the keyboard and wait for a new picture beside it.

    Returns:
        (label before, label after): what the slider showed.

    Raises:
        playwright's TimeoutError: the picture did not change.
    """
    knob = view.locator(".widget-slider .noUi-handle").nth(index)
    box = knob.locator("xpath=ancestor::*[contains(@class, 'jp-OutputArea-output')][1]")
    label = view.locator(".widget-slider .widget-readout").nth(index)
    image = box.locator("img").first
    before, picture = label.inner_text(), image.get_attribute("src")
    knob.focus()
    view.keyboard.press(key)
    deadline = time.monotonic() + timeout / 1000
    while image.get_attribute("src", timeout=timeout) == picture:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the picture under slider {index} did not change")
        view.wait_for_timeout(50)
    return before, label.inner_text()


def screenshots(view, folder: Path) -> list[Path]:
    """Save every output picture of the page as it is shown, numbered from 0."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, image in enumerate(view.locator(".jp-OutputArea-output img").all()):
        image.scroll_into_view_if_needed()
        image.screenshot(path=(path := folder / f"{number:02}.png"))
        paths.append(path)
    return paths
