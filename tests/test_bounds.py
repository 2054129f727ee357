"""The lowest versions that settings.ini allows are those of CONTRIBUTING.md's table, and Colab has at least these."""

import pytest
import re
import subprocess
import sys
from real import ROOT, load_script

TOOL = ROOT / "tools" / "bounds.py"


@pytest.fixture(scope="module")
def bounds():
    "tools/bounds.py as a module."
    return load_script("tools", "bounds")


def table():
    "The rows of the table of lowest versions: package, bound, Colab's version, why."
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("## The lowest versions")[1].split("\n## ")[0]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
    return {row[0]: row[1:] for row in rows[2:]}


def test_table_says_what_settings_say(bounds):
    assert {name: row[0] for name, row in table().items()} == bounds.lower_bounds()


def test_every_bound_has_its_reason():
    assert [name for name, (_, _, why) in table().items() if not why] == []


def test_colab_has_at_least_the_lowest(bounds):
    newer = [
        f"{name} {lowest}, Colab {colab}"
        for name, (lowest, colab, _) in table().items()
        if colab != "-" and bounds.release(colab) < bounds.release(lowest)
    ]
    assert newer == []


@pytest.mark.parametrize("entry", ["torch", "torch<3", "torch!=2.5", 'torch;sys_platform=="linux"'])
def test_a_requirement_without_a_lower_bound_is_refused(bounds, entry):
    with pytest.raises(SystemExit, match=re.escape(entry) + ".*has no lower bound"):
        bounds.lower_bound(entry)


@pytest.mark.parametrize(
    "entry, found",
    [
        ("numpy>=1.24", ("numpy", "1.24")),
        ("av>=14.2,<20", ("av", "14.2")),
        ("av<20,>=14.2", ("av", "14.2")),
        ('decord==0.6.0;sys_platform=="win32"', ("decord", "0.6.0")),
        ('open_clip_torch>=3.0;python_version>="3.10"', ("open_clip_torch", "3.0")),
        ("accelerate[testing]>=0.30", ("accelerate", "0.30")),
    ],
)
def test_lower_bound_of_an_entry(bounds, entry, found):
    assert bounds.lower_bound(entry) == found


def test_the_highest_of_several_bounds_counts(bounds, tmp_path):
    settings = tmp_path / "settings.ini"
    settings.write_text(
        "[DEFAULT]\nrequirements = numpy>=1.9 torch>=2.4\nmore_requirements = numpy>=1.24 torch>=2.4.0\n"
        "dev_requirements = pytest\n"
    )
    assert bounds.lower_bounds(settings) == {"numpy": "1.24", "torch": "2.4"}


def test_check_names_what_is_newer(bounds):
    "An environment with another version than wanted is told from one with the lowest."
    from importlib import metadata

    here = metadata.version("numpy")
    assert bounds.differences({"numpy": here, "no-such-package": "1.0"}) == []
    [difference] = bounds.differences({"numpy": "1.0"})
    assert difference == f"numpy is {here} here, and the lowest version is 1.0."


def test_constraints_are_printed(bounds):
    done = subprocess.run([sys.executable, TOOL], capture_output=True, text=True, timeout=60)
    lines = done.stdout.split()
    assert done.returncode == 0 and len(lines) == len(bounds.lower_bounds() | bounds.colab_versions())
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert f"torch=={bounds.lower_bounds()['torch']}" in lines
