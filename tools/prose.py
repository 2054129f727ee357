"""Check the prose of the kit: markdown cells, docstrings, messages, help texts, what figures and widgets say, pages.

    python tools/prose.py                  # every finding; exit code 1 if there is one
    python tools/prose.py nbs/heads        # those of a folder or a file
    python tools/prose.py --count          # words of each kind, and in all
    python tools/prose.py --draw 10 --seed 0   # passages at random, to read as a newcomer

`tools/prose.txt` has the phrases that are not written any more.
"""

import argparse
import ast
import json
import random
import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
MOST_WORDS = 35  # a sentence; code in backquotes counts as one word
MOST_PASSIVES = 2  # a sentence
PAGES = ("CONTRIBUTING.md", "SECURITY.md", "PROMISES.md", "CHANGELOG.md")
RAISED = re.compile(r"(Error|Warning)$")
PARTICIPLE = (
    r"(?:[a-z]+(?:ed|en)|built|cut|found|given|held|kept|known|left|lost|made|put|read|said|sent|set|shown|told)"
)
PASSIVE = re.compile(
    rf"\b(?:is|are|was|were|be|been|being)\s+(?:(?:not|never|then|also|only)\s+)?({PARTICIPLE})\b", re.I
)
FIGURE = {"title", "name", "text", "hovertext", "hovertemplate", "xaxis_title", "yaxis_title", "title_text"}
FIGURE |= {"subplot_titles", "legend_title", "label", "description", "tooltip", "placeholder"}
PRINTS = {"print", "Markdown", "HTML"}
STARTS = re.compile(r"\d+\. |[*\w, ]+ : ")  # an item of a numbered list, a parameter of a docstring
ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|vs|cf|sec|eq|fig|al|approx)\.$", re.I)


def read_phrases() -> dict:
    "What to write instead, by the expression of an old phrase."
    lines = (ROOT / "tools" / "prose.txt").read_text().splitlines()
    pairs = [line.split("  ->  ") for line in lines if not line.startswith("#")]
    return {re.compile(old, re.I): better for old, better in pairs}


PHRASES = read_phrases()


class Passage(NamedTuple):
    "A piece of prose and where it stands."

    file: str
    place: str  # a cell's id, or a name
    kind: str  # "markdown", "docstring", "message", "help", "figure", "printed" or "page"
    text: str


def relative(path) -> str:
    "A path as a person types it in the checkout."
    return path.resolve().relative_to(ROOT).as_posix()


def without_code(text: str) -> str:
    "Markdown without code blocks, formulas, tables' rules, pictures and the addresses of links."
    text = re.sub(r"```.*?```|~~~.*?~~~", "", text, flags=re.S)
    text = re.sub(r"^(?: {4}|\t).*$", "", text, flags=re.M)
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.S)
    text = re.sub(r"<[^>\n]+>", "", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"^\s*\|[\s:|-]+\|\s*$", "", text, flags=re.M)


def docstrings(tree, file, cell):
    "The docstrings of a cell, without the lists of parameters' names."
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            text = ast.get_docstring(node)
            if text:
                yield Passage(file, f"{cell} {node.name}", "docstring", text)


def spoken(node) -> str:
    "The text of a string or an f-string; a value in it is one word."
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(spoken(part) if isinstance(part, ast.Constant) else "VALUE" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return spoken(node.left) + spoken(node.right)
    return ""


def name_of(node) -> str:
    "The name of what is called."
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def messages(tree, file, cell):
    "Errors, warnings and help texts of a cell."
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = name_of(node.func)
        if RAISED.search(name) or name == "warn":
            kind, parts = "message", node.args[:1]
        elif name in ("Option", "Argument", "Flag"):
            kind, parts = "help", node.args[3:4]
        else:
            continue
        text = " ".join(map(spoken, parts))
        if text.strip():
            yield Passage(file, cell, kind, text)


def drawn(tree, file, cell):
    "Titles, names and other texts of figures and widgets; what a cell prints."
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        for keyword in node.keywords:
            if keyword.arg in FIGURE:
                yield Passage(file, cell, "figure", "\n\n".join(map(spoken, elements(keyword.value))))
        if name_of(node.func) in PRINTS:
            yield Passage(file, cell, "printed", without_code(" ".join(map(spoken, node.args))))


def elements(node) -> list:
    "The members of a list or a tuple; of another node, itself."
    return node.elts if isinstance(node, ast.List | ast.Tuple) else [node]


def code_of(source: str) -> str:
    "A code cell without its magics."
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())


def in_notebook(path):
    "Every passage of a notebook."
    file = relative(path)
    for cell in json.loads(path.read_text())["cells"]:
        source, place = "".join(cell["source"]), cell["id"][:8]
        if cell["cell_type"] == "markdown":
            yield Passage(file, place, "markdown", without_code(source))
            continue
        try:
            tree = ast.parse(code_of(source))
        except SyntaxError:
            continue
        yield from docstrings(tree, file, place)
        yield from messages(tree, file, place)
        yield from drawn(tree, file, place)


def passages(paths=()):
    "Every passage of the kit, or of some of its files and folders."
    paths = [Path(p).resolve() for p in paths] or [ROOT / "nbs", *(ROOT / page for page in PAGES)]
    for path in paths:
        for file in sorted(path.rglob("*.ipynb")) if path.is_dir() else [path]:
            if ".ipynb_checkpoints" in file.parts:
                continue
            if file.suffix == ".ipynb":
                yield from in_notebook(file)
            else:
                yield Passage(relative(file), "", "page", without_code(file.read_text()))


def blocks(passage: Passage) -> list:
    "Paragraphs, items of lists, cells of tables and headings, each on one line."
    found, block = [], []
    for line in [*passage.text.splitlines(), ""]:
        bare = line.strip()
        starts = not bare or bare.startswith(("#", "- ", "* ", "|", "> ")) or STARTS.match(bare)
        if starts or re.fullmatch(r"-{3,}", bare):
            found.append(" ".join(block))
            block = []
        if bare.startswith("|"):
            found += [part.strip() for part in bare.strip("|").split("|")]
        elif bare.startswith("#"):
            found.append(bare.lstrip("# "))
        elif bare and not re.fullmatch(r"-{3,}", bare):
            block.append(re.sub(r"^(?:[-*>]|\d+\.)\s+", "", bare))
    return [block for block in [*found, " ".join(block)] if block]


def sentences(block: str) -> list:
    "The sentences of a block. Code in backquotes is one word."
    block = re.sub(r"`[^`]*`", "CODE", block)
    block = re.sub(r"\$[^$]*\$", "FORMULA", block)
    found, start = [], 0
    for end in re.finditer(r"[.!?:;][\"')*_]*\s+(?=[\"'(*_]*[A-Z0-9`])", block):
        piece = block[start : end.end()].strip()
        if not ABBREVIATION.search(piece):
            found.append(piece)
            start = end.end()
    return [*found, block[start:].strip()]


def num_words(text: str) -> int:
    "Words with a letter in them."
    return len(re.findall(r"[^\W\d_][\w'’-]*", text))


def findings_of(sentence: str) -> list:
    "What is wrong with one sentence."
    found = []
    words = num_words(sentence)
    if words > MOST_WORDS:
        found.append(f"{words} words")
    if len(PASSIVE.findall(sentence)) > MOST_PASSIVES:
        found.append("too many passives")
    found += [f"/{old.pattern}/ -> {better}" for old, better in PHRASES.items() if old.search(sentence)]
    return found


def findings(passage: Passage):
    "Each sentence of a passage that breaks a rule."
    for block in blocks(passage):
        for sentence in sentences(block):
            for why in findings_of(sentence):
                yield f"{passage.file} {passage.place}: {why}: {sentence}"


def count(found) -> dict:
    "Words of each kind of passage."
    words = {}
    for passage in found:
        words[passage.kind] = words.get(passage.kind, 0) + num_words(passage.text)
    return {**words, "all": sum(words.values())}


def main() -> int:
    "Print findings, counts or passages."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--count", action="store_true")
    parser.add_argument("--draw", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = list(passages(args.paths))
    if args.count:
        print(*(f"{words:7,} {kind}" for kind, words in count(found).items()), sep="\n")
        return 0
    if args.draw:
        long = [p for p in found if num_words(p.text) >= 20]
        for p in random.Random(args.seed).sample(long, args.draw):
            print(f"== {p.file} {p.place} ({p.kind})\n{p.text.strip()}\n")
        return 0
    lines = [line for passage in found for line in findings(passage)]
    print(*lines, f"{len(lines)} findings", sep="\n")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
