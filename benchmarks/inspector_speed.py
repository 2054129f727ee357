"""How long the inspector takes from a handle's change until the screen shows it, measured in the browser.

A real JupyterLab, a headless Chromium, the shipped model. A change is made on the widget's own element; the clock stops at the first picture after the view
says that all panels of that change are drawn. Median of 30.

    python benchmarks/inspector_speed.py
"""
from pathlib import Path
import json, shutil, statistics, sys, tempfile

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from test_inspector import ARGS, CHROMIUM, ROOT, Inspector, jupyterlab, playwright, run_notebook

SHOWN = """el => new Promise((done, fail) => {
  setTimeout(() => fail(new Error("nothing was drawn within 20 s")), 20000);
  const view=el.querySelector('.prism'), old=+view.dataset.serial, start=performance.now();
  new MutationObserver((_, o)=>{ if(+view.dataset.serial>old){ o.disconnect(); requestAnimationFrame(()=>done(performance.now()-start)) } }).observe(view,{attributes:true,attributeFilter:['data-serial']});
  (%s)(el);
})"""
CLICK = "el=>[...el.querySelectorAll('button')].find(b=>b.textContent.trim()=={name!r}).click()"
KEY = """el=>{{const h=[...el.querySelectorAll('.widget-slider')].find(s=>s.querySelector('label').textContent=={name!r}).querySelector('.noUi-handle');
  h.dispatchEvent(new KeyboardEvent('keydown',{{key:{key!r},bubbles:true}}))}}"""
PICK = """el=>{{const s=[...el.querySelectorAll('.widget-dropdown')].find(s=>s.querySelector('label').textContent=={name!r}).querySelector('select');
  s.selectedIndex={index}; s.dispatchEvent(new Event('change',{{bubbles:true}}))}}"""


def median(page, actions, rest=120):
    "Median and worst of the given actions, in ms."
    took = []
    for act in actions:
        took.append(page.locator(".vidprism-inspector").first.evaluate(SHOWN.replace("%s", act)))
        page.wait_for_timeout(rest)
    return dict(median=round(statistics.median(took)), worst=round(max(took)), of=len(took))


def measure(page) -> dict:
    "Every kind of handle, on the tab that opens first; one handle on the other tabs; new clips."
    box, steps = Inspector(page).box, lambda name: [KEY.format(name=name, key=k) for k in ["ArrowLeft", "ArrowRight"] * 15]
    median(page, steps("alpha")[:4])                                             # warm
    found = {"expert off/on": median(page, [CLICK.format(name="rate 4")] * 30)}
    for name in ("threshold", "alpha", "delta"): found[name] = median(page, steps(name))
    found["order"] = median(page, [PICK.format(name="order", index=k % 3) for k in range(1, 31)])
    found["frame"] = median(page, [KEY.format(name="frame", key="ArrowRight")] * 30)
    for tab in ("Kept and merged", "Gates", "Attention", "Where each looks", "Two models"):
        page.locator(".vidprism-inspector").first.evaluate(SHOWN.replace("%s", CLICK.format(name=tab))); page.wait_for_timeout(2500)
        found[f"threshold, tab {tab}"] = median(page, steps("threshold"))
    page.locator(".vidprism-inspector").first.evaluate(SHOWN.replace("%s", CLICK.format(name="What counted"))); page.wait_for_timeout(800)
    found["new clip"] = median(page, [PICK.format(name="clip", index=k % 18) for k in range(30)], 400)
    return found


def main():
    with tempfile.TemporaryDirectory() as d:
        shutil.copy(ROOT / "nbs" / "31_inspect_clip.ipynb", d)
        with jupyterlab(Path(d)) as address, playwright.sync_playwright() as p:
            page = p.chromium.launch(executable_path=CHROMIUM, args=ARGS).new_page(viewport=dict(width=1366, height=900))
            run_notebook(page, address, "31_inspect_clip.ipynb")
            page.locator(".vidprism-inspector").first.scroll_into_view_if_needed()
            page.wait_for_selector(".vidprism-inspector .prism[data-serial]"); page.wait_for_timeout(1500)
            found = measure(page)
    for name, m in found.items(): print(f"{name:32s} median {m['median']:5d} ms   worst {m['worst']:5d} ms   of {m['of']}")
    if len(sys.argv) > 1: Path(sys.argv[1]).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__": main()
