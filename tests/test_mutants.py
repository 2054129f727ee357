"Mutation testing: the tester notices what it must, and its numbers are kept."

import json
import pytest
import subprocess
import sys
from real import ROOT

KEPT = json.loads((ROOT / "benchmarks" / "mutants.json").read_text())
EQUIVALENT = json.loads((ROOT / "benchmarks" / "mutants_equivalent.json").read_text())
TRIED = """
import mutants
mutants.one_thread()
source = mutants.source_path("heads/losses").read_text()
order, cpu, _ = mutants.settled_order("heads/losses")
endless = "    while True: pass\\n    experts = shares"
for old, new in [("square()", "abs()"), ("square()", "square() "), ("    experts = shares", endless)]:
    mutant = mutants.Mutant("", "", "", "", 0, source.replace(old, new))
    print(mutants.judge("heads/losses", mutant, order, 1.0 if "while" in new else 60.0).verdict)
"""


@pytest.mark.parametrize("name", sorted(KEPT))
def test_killed(name):
    "At least nine of ten mutants are killed; the sums are right, each equivalent one has a reason."
    result = KEPT[name]
    alive = result["survived"] + result["equivalent"]
    assert result["killed"] + len(alive) == result["mutants"]
    assert result["killed"] >= 0.9 * (result["mutants"] - len(result["equivalent"]))
    assert all(len(m["reason"]) > 10 for m in result["equivalent"])


@pytest.mark.parametrize("name", sorted(EQUIVALENT))
def test_listed_as_equivalent(name):
    "The line of each equivalent mutant is in its module, and not as the mutant has it."
    lines = {line.strip() for line in (ROOT / "vidprism" / f"{name}.py").read_text().splitlines()}
    for entry in EQUIVALENT[name]:
        assert entry["line"] in lines and entry["line"] not in entry["mutants"]
        assert len(set(entry["mutants"])) == len(entry["mutants"]) > 0


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="mutants run in forks")
def test_a_wrong_module_fails_and_the_same_one_passes():
    done = subprocess.run(
        [sys.executable, "-c", TRIED], cwd=ROOT / "tools", capture_output=True, text=True, timeout=600
    )
    assert done.stdout.split("\n")[-4:-1] == ["failed", "passed", "timed out"], done.stderr[-2000:]
