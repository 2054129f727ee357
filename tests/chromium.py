"""A Chromium for the tests that need one: on PATH, Playwright's own, or installed now; else the reasons for none.

`VIDPRISM_INSTALL_BROWSER=0` keeps it from installing; `BROWSER_PATH` names one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
LIMIT = 240  # seconds a way of installing may take


class Found(NamedTuple):
    "A browser, or why there is none."

    path: str | None
    why: str = ""


def run(command, limit=LIMIT):
    "None, or what went wrong."
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=limit, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return f"took longer than {limit} s"
    except OSError as e:
        return str(e)
    if done.returncode == 0:
        return None
    said = (done.stderr or done.stdout).strip().splitlines()
    return said[-1] if said else f"ended with {done.returncode}"


def starts(path, found_by):
    "The browser at `path`, if it starts: Ubuntu's `chromium-browser` may be a stub that only asks for snap."
    wrong = run([path, "--version"], 60)
    return Found(path) if wrong is None else Found(None, f"{found_by} does not start ({wrong})")


def on_path():
    "The one that BROWSER_PATH names, or that a package manager installed."
    named = os.environ.get("BROWSER_PATH")
    places = [named] if named else list(filter(None, map(shutil.which, NAMES)))
    tried = [starts(p, p) for p in places]
    return next((f for f in tried if f.path), Found(None, "; ".join(f.why for f in tried) or "no Chromium is on PATH"))


def playwrights_own():
    "The one that `playwright install` put into its own folder."
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        path = p.chromium.executable_path
    if not Path(path).exists():
        return Found(None, "Playwright has no Chromium of its own")
    return starts(path, "Playwright's Chromium")


def by_apt():
    "Install Debian's package."
    if not shutil.which("apt-get") or os.geteuid() != 0:
        return "apt-get needs a Debian and root"
    quick = ["-qq", "-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=20"]
    install = ["apt-get", "install", "-y", "--no-install-recommends", *quick, "chromium"]
    wrong = run(["apt-get", "update", *quick], 90) or run(install)
    return wrong and f"apt-get install chromium: {wrong}"


def by_playwright():
    "Let Playwright download its own."
    wrong = run([sys.executable, "-m", "playwright", "install", "chromium"])
    return wrong and f"playwright install chromium: {wrong}"


def find_chromium(looks=None, ways=None):
    "Look; then install in one way after the other, and look again."
    looks = looks or (on_path, playwrights_own)
    ways = (by_apt, by_playwright) if ways is None else ways
    why = []
    if os.environ.get("VIDPRISM_INSTALL_BROWSER") == "0":
        ways, why = (), ["VIDPRISM_INSTALL_BROWSER is 0"]
    for install in (lambda: None, *ways):
        wrong = install()
        if wrong is not None:
            why.append(wrong)
            continue
        for look in looks:
            found = look()
            if found.path:
                return found
            if found.why not in why:
                why.append(found.why)
    return Found(None, "; ".join(why))
