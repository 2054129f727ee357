"""Rename the keys of results that earlier versions kept; no number is touched.

    python tools/migrate_results.py [FOLDER ...]     # folders of studies; without: benchmarks/tables/*

`against` becomes `classifier`, `keep` of a probe `active_experts`, and the preset `small` of the head
`vidprism` the head `vidprism_lowdata`. The counts `frames` and `classes` become `num_frames` and `num_classes`.
A result's file is named after its settings, so it is renamed, too. In explanations.json, `story` becomes `metadata`.
Results that have today's names already are left as they are."""

import json
import sys
from pathlib import Path
from vidprism.experiments.studies import Trial, cell_file, open_study
from vidprism.files import write_json
from vidprism.model_config import todays_head

ROOT = Path(__file__).parent.parent


def renamed_probe(change: dict) -> dict:
    "What differs at inference, in today's names."
    return {"active_experts" if key == "keep" else key: value for key, value in change.items()}


def renamed_trial(cell: dict) -> dict:
    "The settings of a result, in today's names."
    head, options = todays_head(cell["head"], cell["options"])
    probes = {name: renamed_probe(change) for name, change in cell["probes"].items()}
    classifier = cell["against"] if "against" in cell else cell["classifier"]
    return dict(
        head=head, options=options, shots=cell["shots"], stride=cell["stride"], classifier=classifier, probes=probes
    )


COUNTS = {"frames": "num_frames", "classes": "num_classes"}


def _todays(key: str, value) -> str:
    "Today's name of a key. A score or a list of names is no count, and keeps its key."
    if key == "story":
        return "metadata"
    return COUNTS.get(key, key) if type(value) is int else key


def renamed_keys(content):
    "The content of a file, in today's names."
    if isinstance(content, list):
        return [renamed_keys(value) for value in content]
    if not isinstance(content, dict):
        return content
    return {_todays(key, value): renamed_keys(value) for key, value in content.items()}


def migrate_keys(file: Path):
    "Rename the keys of one file."
    before = json.loads(file.read_text())
    after = renamed_keys(before)
    if after != before:
        write_json(file, after)


def renamed_record(record: dict) -> dict:
    "A result, in today's names."
    renamed = dict(record, cell=renamed_trial(record["cell"]))
    if "study" in record:
        renamed["study"] = renamed_keys(record["study"])
    return renamed


def migrate(folder: Path) -> int:
    "Rename the keys of a study's results, and their files; how many were changed."
    migrate_keys(folder / "study.json")
    study, changed = open_study(folder), 0
    for path in sorted(folder.glob("*-*.json")):
        before = json.loads(path.read_text())
        record = renamed_record(before)
        if record == before:
            continue
        new = cell_file(study, Trial(**record["cell"]))
        write_json(new, record)
        if new != path:
            path.unlink()
        changed += 1
    return changed


def migrate_rows(file: Path):
    "Rename the heads of the rows of small_data.json."
    data = json.loads(file.read_text())
    for row in [*data["rows"], *data.get("unfinished", [])]:
        settings = row["settings"]
        settings["head"], settings["options"] = todays_head(settings["head"], settings["options"])
    for row in data.get("world", []):
        row["settings"]["options"] = todays_head("vidprism", row["settings"]["options"])[1]
    write_json(file, data)


def migrate_old_numbers(file: Path):
    "Rename the settings of the cells in numbers_0_1_0.json."
    data = json.loads(file.read_text())
    for name in ("world", "jhmdb21", "world_text"):
        for row in data[name]["cells"].values():
            row["cell"] = renamed_trial(row["cell"])
    write_json(file, data)


def main(folders):
    "Migrate studies, the table of small data, the numbers of 0.1.0, and the files of benchmarks."
    for folder in folders:
        print(f"{folder.name}: {migrate(folder)} results renamed")
    migrate_rows(ROOT / "benchmarks" / "small_data.json")
    migrate_old_numbers(ROOT / "benchmarks" / "numbers_0_1_0.json")
    for name in ("adapters", "explanations", "rates", "reading"):
        migrate_keys(ROOT / "benchmarks" / f"{name}.json")


if __name__ == "__main__":
    studies = sorted(p for p in (ROOT / "benchmarks" / "tables").iterdir() if p.is_dir())
    main([Path(a) for a in sys.argv[1:]] or studies)
