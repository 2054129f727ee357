"Every public function and class says at run time what a caller must know: parameters, shapes, results and errors."

import ast
import dataclasses
import importlib
import inspect
import pytest
import re
from real import ROOT, module_order
from torch import Tensor

UNFINISHED = (ROOT / "tests" / "docstrings_to_come.txt").read_text().split()
CHECKS = ("one_of", "positive_int", "check_features", "check_active_experts")  # they raise ConfigError


def public(module):
    "(name, object) of the functions and classes that a module exports, and of its classes' own public methods."
    loaded = importlib.import_module("vidprism." + module.replace("/", "."))
    for name in loaded.__all__:
        found = getattr(loaded, name)
        if inspect.isclass(found) or inspect.isfunction(found):
            yield name, found
        if inspect.isclass(found):
            for method, f in vars(found).items():
                f = getattr(f, "__func__", f)
                if inspect.isfunction(f) and method[0] != "_" and f.__module__ == loaded.__name__:
                    yield f"{name}.{method}", f


def sections(text):
    "Heading -> body of a numpy docstring; the part before the first heading is under ''."
    pieces = re.split(r"(?m)^(\w+)\n-{3,}\n", text)
    return {"": pieces[0], **dict(zip(pieces[1::2], pieces[2::2]))}


def entries(body):
    "name -> description of a section's entries; `a, b : int` are two names."
    found = {}
    for head, text in re.findall(r"(?m)^(\S.*)\n((?:[ \t]+.*\n?|\n)*)", body + "\n"):
        for name in head.split(" : ")[0].split(","):
            found[name.strip().lstrip("*")] = (head + "\n" + text).strip()
    return found


def parameters(thing):
    "Parameters that the caller gives: name -> annotation."
    if inspect.isclass(thing) and (dataclasses.is_dataclass(thing) or hasattr(thing, "_fields")):
        names = [f.name for f in dataclasses.fields(thing)] if dataclasses.is_dataclass(thing) else thing._fields
        return {n: inspect.get_annotations(thing).get(n, "") for n in names}
    try:
        given = inspect.signature(thing).parameters
    except ValueError:
        return {}
    return {n: p.annotation for n, p in given.items() if n != "self" and n[0] != "_"}


def raised(thing):
    "Names of the errors that the function's own text raises."
    try:
        tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(thing)))
    except (SyntaxError, OSError, TypeError):
        return set()
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            found.add(node.exc.func.id)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CHECKS:
            found.add("ConfigError")
    return {n for n in found if n.endswith("Error")}


def described(thing):
    """Parameters or fields that a docstring describes.

    Those of a base class count where the docstring names it in backticks."""
    text = inspect.getdoc(thing) or ""
    parts = sections(text)
    told = {}
    for base in inspect.getmro(thing)[1:] if inspect.isclass(thing) else ():
        if f"`{base.__name__}`" in text:
            told |= described(base)
    for heading in ("Parameters", "Attributes"):
        told |= entries(parts.get(heading, ""))
    return told


def lacking(name, thing):
    "What a docstring does not say."
    text = inspect.getdoc(thing)
    own = thing.__doc__
    if not text or not own or own.startswith(f"{thing.__name__}("):
        return [f"{name}: no docstring"]
    parts = sections(text)
    told = described(thing)
    out = [f"{name}: {p} is not described" for p in parameters(thing) if p not in told]
    tensors = [p for p, kind in parameters(thing).items() if "Tensor" in str(kind) and p in told]
    out += [f"{name}: {p} has no shape" for p in tensors if "[" not in told[p] and "scalar" not in told[p]]
    if inspect.isfunction(thing):
        out += [f"{name}: {e} is not under Raises" for e in raised(thing) if e not in parts.get("Raises", "")]
        result = thing.__annotations__.get("return")
        if result not in (None, "None", type(None)) and not {"Returns", "Yields"} & set(parts):
            out += [f"{name}: no Returns"] if parameters(thing) else []
    if "TODO" in text:
        out += [f"{name}: TODO"]
    return out


@pytest.mark.parametrize("module", [m for m in module_order() if m not in UNFINISHED])
def test_docstrings(module):
    lacks = [line for name, thing in public(module) for line in lacking(name, thing)]
    assert not lacks, "\n".join(lacks)


def test_a_gap_is_found():
    "The check itself: a parameter, a shape, an error and a result that are not described."

    def scale(x: Tensor, by: float) -> Tensor:
        """Multiply.

        Parameters
        ----------
        x : Tensor
            Anything.
        """
        if by < 0:
            raise ValueError("by must not be negative")
        return x * by

    found = lacking("scale", scale)
    expected = ["by is not described", "x has no shape", "ValueError is not under Raises", "no Returns"]
    assert [line.split(": ")[1] for line in found] == expected
