"The house: order of imports, public names, clean tracked files."

import ast
import json
import pytest
import re
import subprocess
import sys
import vidprism
from real import ROOT, handbook, module_order

ORDER = module_order()
FOLDERS = ("data", "encoders", "heads", "training", "evaluation", "interpret", "viz", "experiments")


def imported(module):
    "Modules of the kit that a module imports, as folder/module."
    tree = ast.parse((ROOT / "vidprism" / f"{module}.py").read_text())
    home = module.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names, base = [a.name for a in node.names if a.name.startswith("vidprism.")], []
        elif isinstance(node, ast.ImportFrom) and node.level:
            names, base = [node.module or ""], home[: len(home) - node.level + 1]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vidprism."):
            names, base = [node.module], []
        else:
            continue
        for name in names:
            yield "/".join([*base, *name.removeprefix("vidprism.").split(".")])


def module_names(module):
    "Public names that a module defines."
    tree = ast.parse((ROOT / "vidprism" / f"{module}.py").read_text())
    listed = next(n for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "__all__")
    return ast.literal_eval(listed.value)


@pytest.mark.parametrize("module", ORDER)
def test_imports_go_up(module):
    "A module imports only from modules above it."
    below = [m for m in imported(module) if m not in ORDER[: ORDER.index(module)]]
    assert not below, f"{module} imports {below}, which is not above it"


def test_folders_stand_in_order():
    "A folder's modules stand together, in the order of FOLDERS; two modules of training/ come after evaluation/."
    late = {"training/pipeline", "training/runs"}
    places = [FOLDERS.index(m.split("/")[0]) for m in ORDER if "/" in m and m not in late]
    assert places == sorted(places)
    folder_of = {m: m.split("/")[0] for m in ORDER if "/" in m}
    lower = {m for m in folder_of for i in imported(m) if i in folder_of and is_lower(folder_of[i], folder_of[m])}
    assert lower == late


def is_lower(folder, other):
    "Whether a folder stands below another."
    return FOLDERS.index(folder) > FOLDERS.index(other)


def test_every_notebook_has_its_module():
    modules = {
        p.relative_to(ROOT / "vidprism").with_suffix("").as_posix() for p in (ROOT / "vidprism").rglob("[a-z]*.py")
    }
    notebooks = {p.relative_to(ROOT / "nbs").with_suffix("").as_posix() for p in (ROOT / "nbs").rglob("[a-z]*.ipynb")}
    assert modules == set(ORDER)
    assert {name for name in notebooks if not name.startswith("guides/")} - {"index", "handbook"} == set(ORDER)


def test_folders_are_those_of_the_notebooks():
    "nbs/ and vidprism/ have the same folders; guides and papers export nothing."

    def folders(top):
        return {p.name for p in (ROOT / top).iterdir() if p.is_dir() and p.name[0] not in "._"}

    assert folders("vidprism") == set(FOLDERS)
    assert folders("nbs") == {*FOLDERS, "guides", "papers"}


def test_a_name_stands_in_one_module():
    "No two modules export the same name, and no function has its module's name."
    where = {}
    for module in ORDER:
        for name in module_names(module):
            where.setdefault(name, []).append(module)
    assert not {n: m for n, m in where.items() if len(m) > 1}
    assert not {n: m for n, m in where.items() if n == m[0].split("/")[-1]}


def test_public_names():
    "Every public name resolves, and none is the name of a module."
    for name in vidprism.__all__:
        assert getattr(vidprism, name) is not None
    assert not set(vidprism.__all__) & set(ORDER)
    with pytest.raises(AttributeError):
        vidprism.no_such_name


def test_the_map_names_what_is_there():
    "`help(vidprism)` is a map: every name in it that could be a public name is one, and every folder stands in it."
    text = vidprism.__doc__
    named = {line.split("  ")[0].strip() for line in re.findall(r"(?m)^    (\S.*?)(?=   |$)", text)}
    names = {n for row in named for n in re.findall(r"[A-Za-z_]\w*", re.sub(r"\(.*", "", row).split(".")[0])}
    assert len(names) > 30 and not names - set(vidprism.__all__), names - set(vidprism.__all__)
    assert all(folder in text for folder in FOLDERS)


def test_import_is_light():
    "`import vidprism` itself loads no torch."
    code = "import sys, vidprism; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_notebooks_are_light():
    heavy = [p.name for p in (ROOT / "nbs").rglob("*.ipynb") if p.stat().st_size > 1_000_000]
    assert not heavy, f"over 1 MB: {heavy}"


def test_samples_are_small():
    assert sum(p.stat().st_size for p in (ROOT / "data_samples").rglob("*") if p.is_file()) < 25e6


def test_no_paths_of_one_machine():
    "No absolute path in a tracked file, outputs of notebooks included."
    found = subprocess.run(
        [
            "git",
            "grep",
            "-nIE",
            r"(^|[\"'( =:,])/(root|home|Users|work|tmp)/[A-Za-z.]",
            "--",
            ".",
            ":!tests/test_house.py",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout
    assert not found, found


def test_readme_is_the_index():
    "README.md is what `make readme` writes."
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "readme.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_readme_is_short():
    "At most 150 lines: the rest is in the handbook."
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_readme_numbers_are_measured():
    "The handbook's numbers are those of data_samples/build.json."
    built, text = json.loads((ROOT / "data_samples" / "build.json").read_text()), handbook()
    for system in built["systems"].values():
        for measure in ("top1", "shuffled"):
            assert f"{system[measure]['mean']:.1%} ± {system[measure]['std'] * 100:.1f}" in text
