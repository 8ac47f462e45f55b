"""Chromium as Debian has it, driven by Playwright, and what axe-core finds on a page."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

PATIENCE_S = 20
"""What is expected may take that long on a busy machine."""


@contextmanager
def browsing() -> Iterator[Browser]:
    """Have a browser while the block runs; no event loop runs in this thread meanwhile."""
    assert CHROMIUM is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        expect.set_options(timeout=PATIENCE_S * 1000)
        yield browser
        browser.close()


def violations(page: Page) -> list[str]:
    """Return what axe-core finds that keeps people out: rules, and the elements."""
    found = Axe().run(page).response["violations"]
    return [
        f"{violation['id']}: {' '.join(node['html'] for node in violation['nodes'])}"
        for violation in found
    ]
