"""Install the kit into the environment of the Python that runs this, and show how it goes.

`python tools/install.py EXTRA...` says first what is done and how long that takes, then one line a step with the time,
and a sign of life every ten seconds. If pip fails, its last lines are shown and its exit code is kept."""

import re
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = re.compile(r"(Downloading|Using cached) (?:\S*/)?([\w.]+)-\d\S* \(([\d.]+ [kMG]B)\)")
SMALL = ("kB",)  # downloads that are too small to be named
PATIENCE = 10  # seconds without a line until a sign of life


class Progress:
    "Lines with the seconds since the start."

    def __init__(self):
        self.start = self.last = time.monotonic()
        self.doing = "asking for packages"
        self.done = threading.Event()

    def say(self, text: str):
        "Print a line."
        self.last = time.monotonic()
        print(f"  {self.last - self.start:4.0f} s  {text}", flush=True)

    def step(self, text: str):
        "A new step."
        if text != self.doing:
            self.doing = text
            self.say(text)

    def watch(self):
        "Give a sign of life where a step takes long."
        while not self.done.wait(1):
            if time.monotonic() - self.last >= PATIENCE:
                self.say(f"still at it (last: {self.doing})")


def step_of(line: str):
    "What a line of pip says, in a few words; None for what nobody needs to read."
    found = PACKAGE.search(line)
    if found and not found[3].endswith(SMALL):
        return f"{found[1].lower()} {found[2]} ({found[3]})"
    if line.startswith("Installing collected packages"):
        return f"installing {line.count(',') + 1} packages"
    if "Preparing editable metadata" in line:
        return "reading the kit's own requirements"
    return None


def pip(*arguments) -> int:
    "Run pip; its exit code."
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments]
    progress, said = Progress(), []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    threading.Thread(target=progress.watch, daemon=True).start()
    for line in process.stdout:
        said.append(line)
        step = step_of(line.strip())
        if step:
            progress.step(step)
    progress.done.set()
    if process.wait():
        print(*said[-30:], sep="", file=sys.stderr)
    else:
        progress.say("installed")
    return process.returncode


def main(extras) -> int:
    "Install the kit with these extras."
    kit = f".[{','.join(extras)}]" if extras else "."
    print(
        f"Installing {'the kit' if not extras else kit} into {Path(sys.prefix).name} (Python "
        f"{sys.version_info.major}.{sys.version_info.minor}).\n"
        "With PyTorch this takes 2 to 10 minutes and up to 6 GB, once; what is there already is not fetched again.",
        flush=True,
    )
    return pip("-e", kit)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
