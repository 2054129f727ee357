"""How long the inspector takes from a handle's change until the screen shows it, measured in the browser.

A real JupyterLab, a headless Chromium, the shipped model. A change is made on the widget's own element; the view says,
in an animation frame, that all panels of that change are drawn (those of the open tab, too, in sight or not), and the
clock stops at the first task after that frame is painted. Median of 30.

    python benchmarks/inspector_speed.py [results.json]
"""

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from vidprism.files import write_json

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from chromium import find_chromium
from test_inspector import ARGS, ROOT, jupyterlab, playwright, run_notebook

SHOWN = """el => new Promise((done, fail) => {
  setTimeout(() => fail(new Error("nothing was drawn within 20 s")), 20000);
  const view = el.querySelector('.prism'), old = +view.dataset.serial, start = performance.now();
  new MutationObserver((_, observer) => {
    if (+view.dataset.serial > old) {
      observer.disconnect();
      const c = new MessageChannel();
      c.port1.onmessage = () => done(performance.now() - start);
      c.port2.postMessage(0);
    }
  }).observe(view, {attributes: true, attributeFilter: ['data-serial']});
  (%s)(el);
})"""
CLICK = "el=>[...el.querySelectorAll('button')].find(b=>b.textContent.trim()=={name!r}).click()"
KEY = """el => {{
  const sliders = [...el.querySelectorAll('.widget-slider')];
  const slider = sliders.find(s => s.querySelector('label').textContent == {name!r});
  slider.querySelector('.noUi-handle').dispatchEvent(new KeyboardEvent('keydown', {{key: {key!r}, bubbles: true}}));
}}"""
PICK = """el => {{
  const menus = [...el.querySelectorAll('.widget-dropdown')];
  const select = menus.find(s => s.querySelector('label').textContent == {name!r}).querySelector('select');
  select.selectedIndex = {index};
  select.dispatchEvent(new Event('change', {{bubbles: true}}));
}}"""


def median(page, actions, rest=120):
    "Median and worst of the given actions, in ms."
    took = []
    for act in actions:
        took.append(page.locator(".vidprism-inspector").first.evaluate(SHOWN.replace("%s", act)))
        page.wait_for_timeout(rest)
    return dict(median=round(statistics.median(took)), worst=round(max(took)), of=len(took))


def measure(page) -> dict:
    "Every kind of handle, on the tab that opens first; one handle on the other tabs; new clips."

    def steps(name):
        return [KEY.format(name=name, key=k) for k in ["ArrowLeft", "ArrowRight"] * 15]

    for name in ("rate 4", "rate 4", "rate 8", "rate 8"):
        median(page, [CLICK.format(name=name)])  # warm: the first uses compile scripts
    median(page, steps("alpha")[:4])
    found = {"expert off/on": median(page, [CLICK.format(name="rate 4")] * 30)}
    for name in ("threshold", "alpha", "delta"):
        found[name] = median(page, steps(name))
    found["order"] = median(page, [PICK.format(name="order", index=k % 3) for k in range(1, 31)])
    found["frame"] = median(page, [KEY.format(name="frame", key="ArrowRight")] * 30)
    for tab in ("Kept and merged", "Gates", "Attention", "Saliency maps", "Two models"):
        page.locator(".vidprism-inspector").first.evaluate(SHOWN.replace("%s", CLICK.format(name=tab)))
        page.wait_for_timeout(2500)
        found[f"delta, tab {tab}"] = median(page, steps("delta"))
    page.locator(".vidprism-inspector").first.evaluate(SHOWN.replace("%s", CLICK.format(name="Importance")))
    page.wait_for_timeout(800)
    found["new clip"] = median(page, [PICK.format(name="clip", index=k % 18) for k in range(30)], 400)
    return found


def cpu_name() -> str:
    "The processor's name where Linux tells it, else its kind."
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def machine() -> dict:
    "Where and with what it was measured."
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return dict(
        cpu=cpu_name(),
        cores=os.cpu_count(),
        load_before=round(os.getloadavg()[0], 2),
        commit=commit,
        date=f"{datetime.now(timezone.utc):%Y-%m-%d}",
        python=platform.python_version(),
        **{p: version(p) for p in ("torch", "plotly", "anywidget", "ipywidgets", "jupyterlab")},
    )


def main():
    found, about = find_chromium(), machine()
    if not found.path:
        sys.exit(f"no Chromium: {found.why}")
    with tempfile.TemporaryDirectory() as d:
        shutil.copy(ROOT / "nbs" / "guides" / "02_inspect_clip.ipynb", d)
        with jupyterlab(Path(d)) as address, playwright.sync_playwright() as p:
            browser = p.chromium.launch(executable_path=found.path, args=ARGS)
            page = browser.new_page(viewport=dict(width=1366, height=900))
            run_notebook(page, address, "02_inspect_clip.ipynb")
            page.locator(".vidprism-inspector").first.scroll_into_view_if_needed()
            page.wait_for_selector(".vidprism-inspector .prism[data-serial]")
            page.wait_for_timeout(1500)
            results, about["chromium"] = measure(page), browser.version
    for name, m in results.items():
        print(f"{name:32s} median {m['median']:5d} ms   worst {m['worst']:5d} ms   of {m['of']}")
    if len(sys.argv) > 1:
        write_json(sys.argv[1], dict(unit="ms", machine=about, results=results))


if __name__ == "__main__":
    main()
