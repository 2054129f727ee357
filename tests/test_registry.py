"Heads by name: each one is built in a fresh process, whatever else was imported there."

import os
import pytest
import subprocess
import sys
from real import ROOT, module_order
from textwrap import dedent
from vidprism.heads.base import BUILT_IN

NAMES = list(BUILT_IN)
IMPORTS = (
    "from vidprism import create_head",
    "from vidprism.heads.base import create_head, HEADS",
    "import vidprism.heads.base; create_head = vidprism.heads.base.create_head",
)


def fresh(code):
    "What a new process prints."
    done = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_each_name_builds_first():
    """It is the first head of its process; the three ways to import `create_head` take turns.

    The processes are forks of one that has imported other packages only."""
    calls = [
        f"{IMPORTS[place % len(IMPORTS)]}; head = create_head({name!r}, 16, 3, 8)" for place, name in enumerate(NAMES)
    ]
    said = fresh(f"""
        import accelerate, open_clip, os, pydantic, sys, torch
        assert not any(name.startswith("vidprism") for name in sys.modules)
        for call in {calls!r}:
            pid = os.fork()
            if not pid:
                code = 1
                try:
                    exec(call)
                    print(head.name, type(head).__module__, flush=True)
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitpid(pid, 0)[1] == 0, call
    """)
    assert said.splitlines() == [f"{name} {BUILT_IN[name]}" for name in NAMES]


def test_names_are_known_before_their_modules():
    "A fresh process lists every name, also in an error message, and imports no other module for that."
    error, listed = fresh("""
        import sys
        from vidprism.heads.base import HEADS, create_head
        try:
            create_head("nope", 16, 3, 8)
        except Exception as e:
            print(type(e).__name__, e)
        print(*HEADS, len(HEADS), "mote" in HEADS, "nope" in HEADS, "vidprism.heads.baselines" in sys.modules)
    """).splitlines()
    assert error == f"ConfigError head must be one of {', '.join(NAMES)}, not 'nope'."
    assert listed == f"{' '.join(NAMES)} {len(NAMES)} True False False"


def test_a_registered_head_stays():
    "A head that the user registers under a built-in name is not replaced by a later import."
    assert fresh("""
        from vidprism.heads.base import HEADS, Head, register_head

        @register_head("mean")
        class Own(Head):
            pass

        import vidprism.heads.baselines
        print(HEADS["mean"] is Own, *HEADS)
    """) == " ".join(["True", *NAMES])


def test_the_table_is_whole():
    "After every module of the kit is imported, the heads are those of the table, from the modules it names."
    modules = [module.replace("/", ".") for module in module_order()]
    same = fresh(f"""
        from importlib import import_module
        from vidprism.heads.base import BUILT_IN, HEADS
        for module in {modules}:
            import_module(f"vidprism.{{module}}")
        print({{name: cls.__module__ for name, cls in HEADS.items()}} == BUILT_IN)
    """)
    assert same == "True"
