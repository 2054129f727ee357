"How the tests come by their browser; nothing is installed here."

import chromium as C
import os
import pytest
import shutil
import subprocess
import sys
from chromium import Found


def script(folder, name, text):
    "An executable of one line."
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def quiet(monkeypatch):
    "A machine with nothing on its PATH and no wishes."
    for name in ("BROWSER_PATH", "VIDPRISM_INSTALL_BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")


def test_one_on_path_is_enough(quiet, monkeypatch, tmp_path):
    own = script(tmp_path, "chromium", "print('Chromium 1')")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert C.find_chromium(ways=[lambda: pytest.fail("nothing needs to be installed")]) == Found(own)


def test_a_stub_is_passed_over(quiet, monkeypatch, tmp_path):
    "Ubuntu's chromium-browser may only ask for snap."
    script(tmp_path, "chromium", "import sys; sys.exit('install the snap')")
    good = script(tmp_path, "google-chrome", "pass")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert C.on_path() == Found(good)
    (tmp_path / "google-chrome").unlink()
    assert C.on_path() == Found(None, f"{tmp_path / 'chromium'} does not start (install the snap)")


def test_named_browser_goes_first(quiet, monkeypatch, tmp_path):
    script(tmp_path, "chromium", "pass")
    own = script(tmp_path, "mine", "pass")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("BROWSER_PATH", own)
    assert C.on_path() == Found(own)
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    assert C.on_path().path is None and "does not start" in C.on_path().why


def test_playwrights_own_comes_second(quiet, monkeypatch, tmp_path):
    pytest.importorskip("playwright.sync_api")
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    assert C.playwrights_own() == Found(None, "Playwright has no Chromium of its own")
    looked = []

    def look(name, answer):
        def answered():
            looked.append(name)
            return answer

        return answered

    looks = [look("path", Found(None, "none")), look("own", Found("own"))]
    assert C.find_chromium(looks, ()) == Found("own")
    assert looked == ["path", "own"]


def test_ways_of_installing_come_in_turn(quiet):
    "The second way only when the first failed, and a look after each that did not."
    there, done = [], []

    def look():
        return Found("/there") if there else Found(None, "none is there")

    def fails():
        done.append("apt")
        return "apt-get needs a Debian and root"

    def works():
        done.append("playwright")
        there.append(1)

    assert C.find_chromium([look], [fails, works]) == Found("/there") and done == ["apt", "playwright"]
    assert C.find_chromium([look], [fails]) == Found("/there")
    assert done == ["apt", "playwright"]  # it is there now: nothing is installed
    there.clear()
    why = "none is there; apt-get needs a Debian and root; no network"
    assert C.find_chromium([look], [fails, lambda: "no network"]) == Found(None, why)
    # installed, it says, and yet not there
    assert C.find_chromium([look], [lambda: None]) == Found(None, "none is there")


def test_a_wish_not_to_install(quiet, monkeypatch):
    monkeypatch.setenv("VIDPRISM_INSTALL_BROWSER", "0")
    found = C.find_chromium([lambda: Found(None, "none is there")], [lambda: pytest.fail("was told not to")])
    assert found == Found(None, "VIDPRISM_INSTALL_BROWSER is 0; none is there")


def test_what_is_run(quiet, monkeypatch):
    "apt-get as root only; every command has a limit; what goes wrong is said in a line."
    asked = []

    def run(command, **options):
        asked.append((command, options["timeout"]))
        return subprocess.CompletedProcess(command, 100, "", "warned\nE: no network")

    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/apt-get")
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    assert C.by_apt() == "apt-get needs a Debian and root" and asked == []
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    assert C.by_apt() == "apt-get install chromium: E: no network"
    assert [c[:2] for c, _ in asked] == [["apt-get", "update"]]
    assert C.by_playwright() == "playwright install chromium: E: no network"
    assert asked[-1] == ([sys.executable, "-m", "playwright", "install", "chromium"], C.LIMIT)
    assert all(limit <= C.LIMIT for _, limit in asked)


def test_a_command_has_a_limit():
    assert C.run([sys.executable, "-c", "import time; time.sleep(60)"], 0.2) == "took longer than 0.2 s"


def test_the_skip_names_its_reason(monkeypatch):
    import conftest

    monkeypatch.setattr(conftest, "find_chromium", lambda: Found(None, "apt-get needs a Debian and root; no network"))
    with pytest.raises(pytest.skip.Exception, match="no Chromium: apt-get needs a Debian and root; no network"):
        conftest.chromium_path.__wrapped__()
    monkeypatch.setattr(conftest, "find_chromium", lambda: Found("/there"))
    assert conftest.chromium_path.__wrapped__() == "/there"
