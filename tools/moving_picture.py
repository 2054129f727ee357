"""Draw `nbs/inspector.gif`, the moving picture of README: python tools/moving_picture.py [FILE]

The app of `vidprism inspect` runs a shipped clip in a headless Chromium: the clip plays, an expert is switched off and
on again, the frames are reversed. Nothing in the picture is drawn by hand.
"""

import os
import re
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
CLIP = ROOT / "data_samples" / "clips" / "16_stop_then_go.mp4"
WIDTH, HEIGHT = 1040, 1000  # of the browser's window, pixels
SMALLER = 0.8  # of the picture
COLOURS = 200


def serve():
    "Start the app; return its process and its address."
    command = [sys.executable, "-m", "vidprism", "inspect", str(CLIP), "--no-browser"]
    env = dict(os.environ, HF_HUB_OFFLINE="1", PYTHONPATH=str(ROOT))
    app = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    for line in app.stdout:
        found = re.search(r"http://\S+", line)
        if found:
            return app, found[0]
    raise SystemExit("The app did not start.")


class Film:
    "Pictures of a page, each with the time that it stays, in milliseconds."

    def __init__(self, page):
        self.page, self.pictures, self.times = page, [], []

    def shoot(self, milliseconds: int) -> None:
        "Take one picture."
        picture = Image.open(BytesIO(self.page.screenshot())).convert("RGB")
        size = [round(side * SMALLER) for side in picture.size]
        self.pictures.append(picture.resize(size, Image.LANCZOS))
        self.times.append(milliseconds)

    def save(self, path: Path) -> None:
        "Write an animated GIF; rare colours are kept."
        frames = [picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE) for picture in self.pictures]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=self.times, loop=0, optimize=True)


def settle(page) -> None:
    "Wait until the answer to the last change is drawn."
    page.wait_for_timeout(5000)


def act(page) -> Film:
    "What happens in the picture."
    film = Film(page)
    film.shoot(1500)
    step = page.get_by_role("button", name="one frame forward")
    for _ in range(16):
        step.click()
        step.click()
        page.wait_for_timeout(300)
        film.shoot(160)
    for mark in ("✓ rate 8", "⊘ rate 8"):
        page.get_by_role("button", name=mark).click()
        settle(page)
        film.shoot(2200)
    page.locator("select").filter(has_text="reversed").select_option("reversed")
    settle(page)
    film.shoot(3000)
    return film


def main(path: Path) -> None:
    "Run the app, act, save."
    app, address = serve()
    try:
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport=dict(width=WIDTH, height=HEIGHT))
            page.goto(address)
            page.wait_for_timeout(12000)
            film = act(page)
            browser.close()
    finally:
        app.terminate()
    film.save(path)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {len(film.pictures)} pictures")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "nbs" / "inspector.gif")
