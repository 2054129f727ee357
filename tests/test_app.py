"The words `inspect` and `lab` as a new user runs them: a wheel, no checkout, a browser, Ctrl-C."

import json
import os
import pytest
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from contextlib import contextmanager
from pathlib import Path
from real import ROOT
from test_inspector import CLIP, Inspector, lab_environment, words

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.long  # servers and kernels are processes of their own
LOCAL = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    "The wheel, built from a copy of what is in the checkout."
    folder = tmp_path_factory.mktemp("wheel")
    skipped = shutil.ignore_patterns(".git", ".venv*", "_docs", "build", "*.egg-info", "artefacts", "__pycache__")
    source = shutil.copytree(ROOT, folder / "source", ignore=skipped)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("vidprism-*.whl"))


@pytest.fixture(scope="session")
def site(wheel, tmp_path_factory):
    "A folder with what the wheel installs, and nothing of the checkout."
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder)
    return folder


@contextmanager
def running(site, folder, *argv, **more):
    "The command, from a folder of its own; what it keeps for a while goes there, too."
    for name in ("tmp", "state"):
        (folder / name).mkdir(exist_ok=True)
    state = folder / "state" / str(len(list((folder / "state").iterdir())))
    kept = dict(TMPDIR=str(folder / "tmp"), TORCHINDUCTOR_CACHE_DIR=str(folder / "torch"))  # PyTorch makes the latter
    env = lab_environment(state) | dict(PYTHONPATH=str(site), OMP_NUM_THREADS="1") | kept | more
    command = [sys.executable, "-m", "vidprism", *map(str, argv)]
    options = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, env=env)
    process = subprocess.Popen(command, preexec_fn=take_interrupts, start_new_session=True, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def take_interrupts():
    "A shell's background job ignores Ctrl-C; this process shall not."
    signal.signal(signal.SIGINT, signal.default_int_handler)


def visit(address):
    "The status of an address, for a visitor who keeps cookies."
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(address, timeout=10) as answer:
        return answer.status


def address_of(process):
    "The address that a server prints."
    for line in process.stdout:
        found = re.search(r"http://127\.0\.0\.1:\d+/\S+", line)
        if found:
            return found[0]
    raise AssertionError(process.stderr.read())


def interrupt(process):
    "Press Ctrl-C; the exit code, and what is left of its session's processes."
    os.killpg(process.pid, signal.SIGINT)
    code = process.wait(60)
    time.sleep(1)
    left = subprocess.run(["ps", "-o", "pid=,args=", "-s", str(process.pid)], capture_output=True, text=True).stdout
    return code, left.strip()


def leftovers(folder):
    "What the command left among temporary files."
    return sorted(p.name for p in (folder / "tmp").iterdir())


def watched(browser):
    "A page that keeps what it asked for and what went wrong."
    page = browser.new_context(viewport=dict(width=1366, height=900)).new_page()
    page.asked, page.wrong = [], []
    page.on("request", lambda r: page.asked.append(r.url))
    page.on("websocket", lambda s: page.asked.append(s.url))
    page.on("pageerror", lambda e: page.wrong.append(str(e)))
    page.on("console", lambda m: page.wrong.append(m.text) if m.type in ("error", "warning") else None)
    return page


class App(Inspector):
    "The inspector in a page of its own: the browser's own controls."

    def choose(self, label, value):
        self.after(lambda: self.box.get_by_label(label, exact=True).select_option(value))

    def slide(self, label, value):
        self.after(lambda: self.box.get_by_label(label, exact=True).fill(str(value)))


@pytest.fixture(scope="module")
def app(site, chromium, tmp_path_factory):
    "`vidprism inspect` on the shipped clips, in a browser."
    folder = tmp_path_factory.mktemp("inspect")
    with running(site, folder, "inspect", "--no-browser") as process:
        page = watched(chromium)
        page.goto(address_of(process), timeout=60_000)
        page.wait_for_selector(".vidprism-inspector .prism[data-serial]", timeout=60_000)
        page.process, page.folder = process, folder
        yield page


@pytest.fixture
def session():
    "The kit's own numbers."
    from vidprism.data.clips import sample_clips
    from vidprism.model import sample_model
    from vidprism.viz.session import Session

    session = Session(sample_model(), sample_clips())
    session.open(next(p for p in session.clips if p.name == CLIP))
    return session


def test_the_inspector_answers(app, session):
    "Each kind of control is used, and the answer is the kit's own."
    i = App(app)
    i.choose("clip", "13_orbit_anticlockwise.mp4")
    i.choose("clip", CLIP)
    before = session.read(session.settings)
    assert i.figure("answer")["layout"]["words"] == words(before.answer)
    i.after(i.box.get_by_role("button", name="rate 2 (fastest)").click)
    after = session.change(off=(0,))
    assert i.figure("answer")["layout"]["words"] == [words(before.answer, "before"), words(after.answer, "after")]
    assert "without rate 2" in i.note("answer")
    i.as_trained()
    i.slide("alpha", 1)
    after = session.change(off=(), alpha=1.0)
    assert i.figure("answer")["layout"]["words"] == [words(before.answer, "before"), words(after.answer, "after")]
    i.as_trained()
    i.box.get_by_label("drop frames").fill("3, 5-7")
    i.after(lambda: i.box.get_by_label("drop frames").press("Enter"))
    after = session.change(alpha=None, dropped=(3, 5, 6, 7))
    assert i.figure("answer")["layout"]["words"][1] == words(after.answer, "after")
    i.as_trained()
    for name in ("Kept and merged", "Gates", "Attention", "Saliency maps", "Two models", "Importance"):
        i.tab(name)
    i.slide("frame", 9)
    assert [text for text, marked in i.figure("frames")["layout"]["notes"] if marked][0].startswith("<b>9</b>")
    assert i.status() == []


def test_nothing_goes_wrong_and_nothing_leaves_the_machine(app):
    App(app).as_trained()
    assert app.wrong == []
    assert [url for url in app.asked if not url.startswith(LOCAL)] == []


def test_uploads(app, session, tmp_path):
    "A broken file is named; a good one in several parts is opened."
    i, broken = App(app), tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with app.expect_file_chooser() as chooser:
        i.box.locator(".widget-upload").click()
    chooser.value.set_files(broken)
    i.box.locator(".vidprism-status").wait_for(timeout=20_000)
    assert i.status()[0].startswith("broken.mp4 was not opened")
    i.as_trained()
    good = tmp_path / "my own.mp4"
    data = next(p for p in session.clips if p.name == CLIP).read_bytes()
    good.write_bytes(data + b"\0\0\0\x08free" * (9_000_000 // 8))  # three parts; a box that a reader skips
    with app.expect_file_chooser() as chooser:
        i.box.locator(".widget-upload").click()
    i.after(lambda: chooser.value.set_files(good))
    assert i.status() == [] and i.box.get_by_label("clip", exact=True).evaluate(
        "menu => menu.selectedOptions[0].textContent"
    ).endswith("my own.mp4")
    i.choose("clip", CLIP)


def test_a_second_page_shows_the_same(app):
    "Two pages of one inspector change together."
    i = App(app)
    other = app.context.new_page()
    other.goto(app.url)
    second = App(other)
    other.wait_for_selector(".vidprism-inspector .prism[data-serial]", timeout=60_000)
    second.after(i.box.get_by_role("button", name="rate 4", exact=False).click)
    assert "without rate 4" in second.note("answer")
    second.as_trained()
    other.close()
    i.page.wait_for_timeout(500)
    assert "without rate 4" not in i.note("answer")


def test_strangers_are_refused(app):
    "Without the token there is nothing to see, and the page stands on no other address of this machine."
    place = re.match(r"http://[^/]*", app.url)[0]
    for path in ("/", "/app.js", "/?token=", "/?token=guess", "/socket"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(place + path, timeout=5)
        assert refused.value.code == 403
    port, own = int(place.rpartition(":")[2]), socket.gethostbyname(socket.gethostname())
    if not own.startswith("127."):
        with pytest.raises(OSError):
            socket.create_connection((own, port), timeout=2)


def test_ctrl_c_ends_all(site, tmp_path):
    "The exit code is 0; no process and no file is left."
    with running(site, tmp_path, "inspect", "--no-browser") as process:
        assert visit(address_of(process)) == 200
        assert interrupt(process) == (0, "")
        assert leftovers(tmp_path) == []
        assert "Traceback" not in process.stderr.read()


def test_sigterm_ends_all(site, tmp_path):
    with running(site, tmp_path, "inspect", "--no-browser") as process:
        address_of(process)
        process.terminate()
        assert process.wait(30) == 143
        assert leftovers(tmp_path) == []


def script(path, text):
    "A program that stands for a browser."
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("word", ["inspect", "lab"])
def test_a_browser_is_opened_with_the_token(site, tmp_path, word):
    "What BROWSER names is given an address that answers."
    seen = tmp_path / "seen.txt"
    browser = script(tmp_path / "browser", f'echo "$1" > {seen}.part; mv {seen}.part {seen}')
    with running(site, tmp_path, word, BROWSER=str(browser)) as process:
        for _ in range(800):
            if seen.exists() or process.poll() is not None:
                break
            time.sleep(0.25)
        opened = seen.read_text().strip()
        if opened.startswith("file:"):  # JupyterLab's page that leads to the address
            opened = re.search(r'url=([^"]*)', Path(opened.removeprefix("file://")).read_text())[1]
        assert "token=" in opened
        assert visit(opened) == 200
        assert interrupt(process)[0] == 0


WRONG = {
    "inspect none.mp4": "none.mp4 does not exist.",
    "inspect text.mp4": "text.mp4 was not opened: text.mp4 is text, not a video.",
    "inspect empty": "empty is a folder without numbered images, not a video file.",
    "inspect --model none": "No model folder was found at none.",
    "inspect --port PORT": "Port PORT is not available (address already in use): choose another by --port.",
    "lab --port PORT": "Port PORT is not available (address already in use): choose another by --port.",
    "lab text.mp4": "text.mp4 is a file, not a folder.",
    "inspect --browser": "No browser was found: use --no-browser, and open the printed address.",
    "lab --browser": "No browser was found: use --no-browser, and open the printed address.",
}


@pytest.mark.parametrize("line", WRONG)
def test_bad_input(site, tmp_path, line):
    "One sentence, exit code 2, within ten seconds of processor time, nothing left."
    (tmp_path / "text.mp4").write_text("no video\n" * 50)
    (tmp_path / "empty").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        argv = line.replace("PORT", port).split()
        argv += [] if "--browser" in argv else ["--no-browser"]
        with running(site, tmp_path, *argv, BROWSER=str(tmp_path / "none"), PATH="/nowhere") as process:
            out, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.strip() == "vidprism: " + WRONG[line].replace("PORT", port)
    assert leftovers(tmp_path) == [] and not (tmp_path / "vidprism-guides").exists()


def run_lab(site, folder, *argv):
    "`vidprism lab`; its address, its process, and what it said about the guides."
    return running(site, folder, "lab", *argv, "--no-browser")


def test_lab_copies_once_and_keeps_changes(site, tmp_path):
    "The guides lie in a folder of the user's; a changed one stays and is named; a lost one comes back."
    count = len(list((ROOT / "nbs" / "guides").rglob("[!.]*.ipynb")))
    with run_lab(site, tmp_path) as process:
        assert f"{count} copied" in process.stdout.readline()
        address_of(process)
        assert interrupt(process) == (0, "")
    guides = tmp_path / "vidprism-guides"
    assert len(list(guides.rglob("[!.]*.ipynb"))) == count
    (guides / "02_inspect_clip.ipynb").write_text("my own")
    (guides / "04_train_a_head.ipynb").unlink()
    with run_lab(site, tmp_path) as process:
        assert process.stdout.readline() == (
            "guides: vidprism-guides (1 copied). Changed by you, so not overwritten: 02_inspect_clip.ipynb.\n"
        )
        address_of(process)
        assert interrupt(process) == (0, "")
    assert (guides / "02_inspect_clip.ipynb").read_text() == "my own"
    assert [name for name in leftovers(tmp_path) if "vidprism" in name] == []


UNSAFE = """
c.ServerApp.ip = "0.0.0.0"
c.ServerApp.token = c.IdentityProvider.token = ""
c.ServerApp.allow_remote_access = True
"""


def test_lab_is_guarded_whatever_the_user_configured(site, tmp_path, chromium):
    "The token is asked for, on loopback alone; the first guide runs in the browser and shows its figures."
    config = tmp_path / "unsafe"
    config.mkdir()
    (config / "jupyter_server_config.py").write_text(UNSAFE)
    with run_lab(site, tmp_path, "mine") as process:
        address = address_of(process)
        place = re.match(r"http://[^/]*", address)[0]
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{place}/api/contents", timeout=5).close()
                raise AssertionError("no token was asked for")
            except urllib.error.HTTPError as error:
                assert error.code == 403
                break
            except OSError:
                time.sleep(0.5)
        page = watched(chromium)
        page.goto(address, timeout=120_000)
        page.wait_for_selector(".jp-NotebookPanel", timeout=120_000)
        assert page.locator(".jp-NotebookPanel h1").first.text_content().startswith("Tour")
        assert [url for url in page.asked if not url.startswith(LOCAL)] == []
        page.close()
        assert interrupt(process) == (0, "")
    assert json.loads((tmp_path / "mine" / ".vidprism-guides.json").read_text())
