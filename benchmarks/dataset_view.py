"""How long each interaction of the data set's view takes: median of 30, in a headless Chromium, on a made-up table.

    python benchmarks/dataset_view.py [--rows 10000 100000] [--out benchmarks/dataset_view.json]

An interaction ends when the browser has painted after it. The page is a saved one with the map drawn by WebGL.
Where the machine has no graphics card this is done in software, and the numbers include that.
The file has one record for each number of rows; a run replaces those of its own numbers.
"""

import argparse
import functools
import json
import numpy as np
import os
import platform
import statistics
import sys
import tempfile
import time
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
  await time('zoom the map', k => Plotly.relayout(gd, {'xaxis.range': [-4 - .1 * k, 4], 'yaxis.range': [-4, 4]}));
  await time('answer a question', k => el.querySelector('[data-view]').click());
  none.click();
  await time('scroll', k => { body.scrollTop = 3000 * k; });
  await time('mark a row as open', k => el.querySelectorAll('tbody tr[data-row]')[k % 5].click());
  return found;
}"""


@functools.cache
def world_table(clips):
    "The table of so many clips of the world."
    from vidprism.encoders.factory import create_encoder
    from vidprism.evaluation.benchmark import FeatureSplit, encode_world
    from vidprism.interpret.clip_tables import clip_table
    from vidprism.model import sample_model

    features, labels = encode_world(create_encoder("mini"), "test", clips, num_frames=32)
    names = [f"clip {i}" for i in range(clips)]
    return clip_table(sample_model(), FeatureSplit(features, labels, names, names), progress=False)


def made_up_table(rows, clips=360):
    "A table of so many rows: those of a few clips of the world again and again, moved a little on the map."
    from vidprism.interpret.clip_maps import clip_map

    random = np.random.default_rng(0)
    table = world_table(clips).select(random.integers(0, clips, rows).tolist())
    table = replace(table, table=table.table.reset_index(drop=True))
    maps = {"video vectors": clip_map(table), "expert usage": clip_map(table, "usage")}
    return table, {k: m._replace(points=m.points + random.normal(0, 0.1, (rows, 2))) for k, m in maps.items()}


def made_up_answer(table):
    "A question's answer for half of the rows, with a column for all, as the page stores it."
    from vidprism.viz.dataset_view import packed, plain_values

    values = dict(new_answer=plain_values(table.table["answer"]), drop=plain_values(table.table["probability"]))
    extra = dict(title="made up", values=values, titles=dict(new_answer="then", drop="fall"), off=[])
    return dict(selection=list(range(0, len(table), 2)), order=["drop", True], extra=packed(extra))


def made_up_page(rows, clips=360):
    "HTML of a page of so many rows with one question."
    from vidprism.viz.dataset_view import dataset_page, view_data

    table, maps = made_up_table(rows, clips)
    data = view_data(table, maps, views=[dict(name="made_up", title="made up", hint="")], live=False)
    return dataset_page("Made up", [], data, dict(made_up=made_up_answer(table)), {})


def timed_page(browser, address):
    "Milliseconds until the page is ready, and of each interaction."
    page = browser.new_page(viewport=dict(width=1366, height=900))
    page.set_default_timeout(180_000)
    start = time.perf_counter()
    page.goto(address)
    page.wait_for_selector("html[data-ready=yes]")
    opened = 1000 * (time.perf_counter() - start)
    return opened, page.evaluate(SCRIPT, TIMES)


def measure(rows):
    "The record of so many rows."
    from chromium import ARGS, find_chromium
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        path = Path(folder) / "page.html"
        path.write_text(made_up_page(rows))
        browser = p.chromium.launch(executable_path=find_chromium().path, args=ARGS)
        opened, found = timed_page(browser, path.as_uri())
        browser.close()
    return dict(
        rows=rows,
        times=TIMES,
        machine=f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end",
        open_ms=round(opened),
        median_ms={name: round(statistics.median(times), 1) for name, times in found.items()},
        largest_ms={name: round(max(times), 1) for name, times in found.items()},
    )


def with_record(path, record):
    "The records of a file, one of them new or replaced, by number of rows."
    old = json.loads(path.read_text())["sizes"] if path.exists() else []
    return sorted([r for r in old if r["rows"] != record["rows"]] + [record], key=lambda r: r["rows"])


def main():
    "Measure, print and write."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    for rows in options.rows:
        record = measure(rows)
        print(json.dumps(record, indent=1), flush=True)
        if options.out:
            options.out.write_text(json.dumps(dict(sizes=with_record(options.out, record)), indent=1) + "\n")


if __name__ == "__main__":
    main()
