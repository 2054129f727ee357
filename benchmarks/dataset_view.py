"""How long each interaction of the data set's view takes: median of 30, in a headless Chromium, on a made-up table.

    python benchmarks/dataset_view.py [--rows 10000] [--out benchmarks/dataset_view.json]

An interaction ends when the browser has painted after it. The page is a saved one with the map drawn by WebGL.
Where the machine has no graphics card this is done in software, and the numbers include that.
"""

import argparse
import json
import numpy as np
import os
import platform
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
TIMES = 30
SCRIPT = """async times => {
  const el = document.querySelector('.prism-set');
  const painted = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  const found = {};
  async function time(name, act) {
    const spent = [];
    for (let k = 0; k < times; k++) {
      const start = performance.now();
      act(k);
      await painted();
      spent.push(performance.now() - start);
    }
    found[name] = spent;
  }
  const heads = [...el.querySelectorAll('.dt-scroll-head th')];
  const menus = [...el.querySelectorAll('select')];
  const none = [...el.querySelectorAll('button')].find(one => one.textContent == 'select none');
  const search = el.querySelector('input[type=search]');
  const body = el.querySelector('.dt-scroll-body');
  const gd = el.querySelector('.map .plot');
  function pick(menu, i) {
    menu.selectedIndex = i;
    menu.dispatchEvent(new Event('change'));
  }
  function find(text) {
    search.value = text;
    search.dispatchEvent(new Event('input', {bubbles: true}));
  }
  await time('sort a column', k => heads[3 + k % 3].click());
  await time('select a class', k => pick(menus[0], 1 + k % 18));
  await time('select right or wrong', k => { pick(menus[2], 1 + k % 2); });
  none.click();
  await time('search', k => find('clip ' + (k + 1) * 7));
  find('');
  await time('brush the map', k => gd.emit('plotly_selected', {
    points: Array.from({length: 500}, (_, i) => ({pointIndex: (i * 17 + k) % gd.data[0].x.length})),
  }));
  none.click();
  await time('colour the map', k => pick(menus[4], k % 5));
  await time('another map', k => pick(menus[3], (k + 1) % 2));
  await time('scroll', k => { body.scrollTop = 3000 * k; });
  await time('mark a row as open', k => el.querySelectorAll('tbody tr[data-row]')[k % 5].click());
  return found;
}"""


def made_up_table(rows):
    "A table of so many clips: those of 360 clips of the world again and again, moved a little on the map."
    from vidprism.encoders.factory import create_encoder
    from vidprism.evaluation.benchmark import FeatureSplit, encode_world
    from vidprism.interpret.clip_maps import clip_map
    from vidprism.interpret.clip_tables import clip_table
    from vidprism.model import sample_model

    features, labels = encode_world(create_encoder("mini"), "test", 360, num_frames=32)
    names = [f"clip {i}" for i in range(360)]
    table = clip_table(sample_model(), FeatureSplit(features, labels, names, names), progress=False)
    random = np.random.default_rng(0)
    table = table.select(random.integers(0, 360, rows).tolist())
    table = replace(table, table=table.table.reset_index(drop=True))
    maps = {"video vectors": clip_map(table), "expert usage": clip_map(table, "usage")}
    return table, {k: m._replace(points=m.points + random.normal(0, 0.1, (rows, 2))) for k, m in maps.items()}


def measure(rows):
    "Milliseconds of each interaction."
    from chromium import ARGS, find_chromium
    from playwright.sync_api import sync_playwright
    from vidprism.viz.dataset_view import dataset_page, view_data

    table, maps = made_up_table(rows)
    data = view_data(table, maps, live=False)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        page_path = Path(folder) / "page.html"
        page_path.write_text(dataset_page("Made up", [], data, {}, {}))
        browser = p.chromium.launch(executable_path=find_chromium().path, args=ARGS)
        page = browser.new_page(viewport=dict(width=1366, height=900))
        page.set_default_timeout(180_000)
        page.goto(page_path.as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        found = page.evaluate(SCRIPT, TIMES)
        browser.close()
    return found


def main():
    "Measure, print and write."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = measure(options.rows)
    medians = {name: round(statistics.median(times), 1) for name, times in found.items()}
    result = dict(
        rows=options.rows,
        times=TIMES,
        machine=f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end",
        median_ms=medians,
        largest_ms={name: round(max(times), 1) for name, times in found.items()},
    )
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
