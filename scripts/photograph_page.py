"""Make the picture of the page in docs/server.md: the mini, asked twice about examples/cat.png.

python scripts/photograph_page.py docs/page.png

Needs the extras of `dev` and Chromium, as Debian has it.
"""

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect, sync_playwright

CAT = Path(__file__).parents[1] / "examples" / "cat.png"
SIZE = {"width": 1000, "height": 720}
COLOURS = 96
PATIENCE_MS = 120_000


def photograph(address: str) -> bytes:
    """Ask, and return what the page looks like then, as PNG.

    Args:
        address: of a server that has the mini.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport=SIZE)
        page.goto(address)
        page.get_by_label("Choose files").set_input_files(CAT)
        for number, question in enumerate(("What is this?", "Is there a dog?"), start=1):
            page.get_by_label("What do you want to know?").fill(question)
            page.get_by_role("button", name="Ask", exact=True).click()
            answers = page.locator("#history").get_by_role("listitem")
            expect(answers).to_have_count(number, timeout=PATIENCE_MS)
        return page.screenshot(full_page=True)


def main(target: str) -> None:
    """Start a server, and write its picture to a file."""
    command = [sys.executable, "-m", "edge_et", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            found = re.search(r"http://\S+", server.stderr.readline())
            assert found is not None, "the server does not start"
            shown = Image.open(io.BytesIO(photograph(found.group())))
        finally:
            server.terminate()
    shown.convert("RGB").quantize(COLOURS).save(target, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
