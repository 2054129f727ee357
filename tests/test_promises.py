"The page of promises: each names a test that is there."

import ast
import pytest
import re
from real import ROOT

PAGE = (ROOT / "PROMISES.md").read_text()
NAMED = re.findall(r"`(tests/\w+\.py)::(\w+)`", PAGE)


def names_of(file: str) -> set:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_is_there(file, name):
    assert name in names_of(file)


def test_each_row_has_one():
    "A row of a table is a promise with its proof."
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(rows) == len(NAMED) > 20
    assert all(row.count("|") == 5 for row in rows)


def test_links():
    for name in re.findall(r"\]\((\w+\.md)\)", PAGE):
        assert (ROOT / name).exists()
