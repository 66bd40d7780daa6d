"""The import rule of docs/architecture.md, read from the syntax trees: every violation is printed at once.

A rule is a function of a module's name inside the package ("dsp.stft", "" for `smalti` itself) and its syntax tree, and
yields a sentence for each violation. `VIOLATIONS` holds small modules that the rules must refuse.
"""

import ast
import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import smalti

PACKAGE = Path(smalti.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"

# A module imports only from an earlier set. Entries of one set never import each other. A package is one entry.
ORDER = [
    {"errors", "_checks", "_parallel", "_numba"},
    {"curves"},
    {"knobs"},
    {"dsp", "nmf"},
    {"settings"},
    {"presets"},
    {"grains"},
    {"score", "metrics"},
    {"mosaicing"},
    {"plots"},
    {"io"},
    {"corpora"},
    {"workflows"},
    {"cli"},
    {"__main__"},
]
HEIGHT = {entry: height for height, entries in enumerate(ORDER) for entry in entries}

# Entries that work on arrays alone: they touch no file, clock, thread or screen.
PURE = {
    "errors",
    "_checks",
    "_numba",
    "curves",
    "knobs",
    "dsp",
    "nmf",
    "settings",
    "presets",
    "grains",
    "score",
    "metrics",
    "mosaicing",
}
# All that they may import of the standard library, and names that they may not use, or anything below these.
PURE_LIBRARY = {
    "collections", "contextlib", "dataclasses", "fnmatch", "functools", "importlib", "itertools", "math", "re", "types",
    "typing", "warnings",
}  # fmt: skip
WORLD = {
    "open", "print", "input", "exec", "eval", "compile", "breakpoint", "__builtins__",
    "contextlib.redirect_stderr", "contextlib.redirect_stdout", "numpy.DataSource", "numpy.fromregex",
    "importlib.metadata", "importlib.resources", "importlib.util", "scipy.datasets", "scipy.io",
    "numpy.fromfile", "numpy.genfromtxt", "numpy.load", "numpy.loadtxt", "numpy.memmap", "numpy.save",
    "numpy.savetxt", "numpy.savez", "numpy.savez_compressed", "numpy.lib.format", "numpy.lib.npyio",
}  # fmt: skip
WORLD_METHODS = {"tofile", "dump"}
# `errors` finds out which extras are installed.
EXCEPTIONS = {("errors", "importlib.util")}

# Third parties, and the parts of the standard library, that only these modules or packages may import.
OWNERS = {
    "PIL": {"io.image"},
    "faiss": {"grains.nearest"},
    "matplotlib": {"plots"},
    "mido": {"io.score_export"},
    "msgspec": {"io.score_file"},
    "numba": {"_numba"},
    "pooch": {"io.examples"},
    "pyloudnorm": {"dsp.loudness"},
    "requests": {"io.examples"},
    "rich": {"cli"},
    "soundfile": {"io.sound_read", "io.sound_write"},
    "soxr": {"io.sound_read"},
    "sqlite3": {"corpora.store", "corpora.writer"},
    "swift_f0": {"dsp.pitch"},
    "threadpoolctl": {"_parallel"},
    "typer": {"cli"},
}
# These may be imported anywhere.
COMMON = {"numpy", "scipy", "smalti"}
# Third parties that are imported inside the functions that need them: they are extras, or slow to load.
LAZY = {"PIL", "faiss", "mido", "numba", "pooch", "pyloudnorm", "requests", "swift_f0"}

# `__init__` is a docstring, but for these: they hand names on.
FRONT_DOORS = {"", "metrics", "plots", "score"}

MOST_MODULES, MOST_LINES, MOST_BODY_LINES = 12, 600, 80


def module_of(file):
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}
PACKAGES = {module for module, file in FILES.items() if file.name == "__init__.py"}
TREES = {module: ast.parse(file.read_text(encoding="utf-8")) for module, file in FILES.items()}


# --- What a module imports and uses


class Import(NamedTuple):
    """What one import names, dotted and with the name after ``from ... import``; `at_top` if it runs at once."""

    path: str
    at_top: bool
    line: int

    @property
    def module(self):
        """The module of smalti that is imported, by its name inside the package; None for other libraries."""
        if entry(self.path) != "smalti":
            return None
        inner = self.path.removeprefix("smalti").lstrip(".")
        return inner if inner in FILES else inner.rpartition(".")[0]


def entry(path):
    return path.partition(".")[0]


def below(path, parent):
    return f"{path}.".startswith(f"{parent}.")


def bound_names(tree):
    """The names that imports bind anywhere in a module, and what they stand for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or entry(alias.name): alias.name if alias.asname else entry(alias.name)
                      for alias in node.names}  # fmt: skip
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def uses(tree):
    """Each name and each chain of attributes that a module reads: its node, and the path that it stands for."""
    bound = bound_names(tree)

    def path_of(node):
        if isinstance(node, ast.Name):
            return bound.get(node.id, node.id)
        return f"{path_of(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else "?"

    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node, path_of(node)


def calls_of_import_module(tree):
    """Each use of `import_module` or `__import__`: its node, and the module's name, None if a reader cannot tell it."""
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node, path in uses(tree):
        if path in ("importlib.import_module", "importlib.__import__", "__import__"):
            arguments = calls[id(node)].args if id(node) in calls else []
            constant = len(arguments) == 1 and isinstance(arguments[0], ast.Constant)
            yield node, arguments[0].value if constant else None


def imports(tree):
    """Everything that a module imports, in whatever form and wherever in it."""
    inside_functions = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            paths = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (Import(path, id(node) not in inside_functions, node.lineno) for path in paths)
    for node, name in calls_of_import_module(tree):
        if name is not None:
            yield Import(name, id(node) not in inside_functions, node.lineno)


def siblings(tree):
    """The imports of modules of smalti."""
    return [found for found in imports(tree) if found.module is not None]


# --- Rules


def order_violations(module, tree):
    own = entry(module)
    if module and own not in HEIGHT:
        yield f"{module}: {own} has no place in ORDER; give it one here and in docs/architecture.md"
    elif module:
        for found in siblings(tree):
            where = f"{module}:{found.line} imports {found.module or 'smalti itself'}"
            # Only `__main__` and the command line may ask for the package as a whole.
            if not found.module:
                if own not in ("cli", "__main__"):
                    yield f"{where}, which imports everything"
            elif entry(found.module) != own and HEIGHT[entry(found.module)] >= HEIGHT[own]:
                yield f"{where}, which is not in an earlier set"


def privacy_violations(module, tree):
    for found in siblings(tree):
        package, _, name = found.module.rpartition(".")
        if name.startswith("_") and package and package not in (module, module.rpartition(".")[0]):
            yield f"{module}:{found.line} imports {found.module}, which is private to {package}"
        last = found.path.rpartition(".")[2]
        if last != name and last.startswith("_") and not last.startswith("__"):
            yield f"{module}:{found.line} imports the private name {last} of {found.module}"
    for node, path in uses(tree):
        inside = path.removeprefix("smalti.")
        last = inside.rpartition(".")[2]
        if inside != path and last.startswith("_") and not last.startswith("__") and inside not in FILES:
            yield f"{module}:{node.lineno} uses the private name {inside}"


def owner_violations(module, tree):
    for found in imports(tree):
        library = entry(found.path)
        owners = OWNERS.get(library)
        if owners is None and library not in COMMON | sys.stdlib_module_names:
            yield f"{module}:{found.line} imports {library}, which has no owner; name one in OWNERS and on the page"
        if owners is not None and not {module, entry(module)} & owners:
            yield f"{module}:{found.line} imports {library}; only {', '.join(sorted(owners))} may"
        if library in LAZY and found.at_top:
            yield f"{module}:{found.line} imports {library} at its top; import it where it is needed"


def dynamic_import_violations(module, tree):
    """Only `smalti` itself, whose names are loaded when they are first used, may compute what it imports."""
    for node, name in calls_of_import_module(tree):
        if name is None and module:
            yield f"{module}:{node.lineno} imports a module whose name is computed; write it out"


def compiled_kernel_violations(module, tree):
    """Kernels load the compiler, so they are imported when they are first needed."""
    for found in siblings(tree):
        if found.module.startswith("nmf._") and found.at_top and not module.startswith("nmf._"):
            yield f"{module}:{found.line} imports {found.module} at its top; import it where it is needed"


def world_violations(module, tree):
    if entry(module) not in PURE:
        return
    for found in imports(tree):
        library = entry(found.path)
        if library in sys.stdlib_module_names - PURE_LIBRARY - OWNERS.keys():
            yield f"{module}:{found.line} imports {library}, but works on arrays alone"
    named = [(found.line, found.path) for found in imports(tree)]
    named += [(node.lineno, path) for node, path in uses(tree)]
    for line, path in named:
        parents = {parent for parent in WORLD if below(path, parent) and (module, parent) not in EXCEPTIONS}
        if parents or ("." in path and path.rpartition(".")[2] in WORLD_METHODS):
            yield f"{module}:{line} uses {path}, but works on arrays alone"


def randomness_violations(module, tree):
    """Randomness comes from generators that are passed in and seeded."""
    for found in imports(tree):
        if below(found.path, "random") or below(found.path, "numpy.random"):
            yield f"{module}:{found.line} imports {found.path}"
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node, path in uses(tree):
        if below(path, "numpy.random.default_rng"):
            call = calls.get(id(node))
            seeds = [] if call is None else [*call.args, *(word.value for word in call.keywords)]
            if call is not None and all(isinstance(seed, ast.Constant) and seed.value is None for seed in seeds):
                yield f"{module}:{node.lineno} makes a generator without a seed"
        elif path != "numpy.random" and below(path, "numpy.random") and not below(path, "numpy.random.Generator"):
            yield f"{module}:{node.lineno} uses {path}"


def unimported_part_violations(module, tree):
    """The parts of scipy are imported where they are used: whether one part loads another may change."""
    imported = {part_of_scipy(found.path) for found in imports(tree)}
    for node, path in uses(tree):
        if (part := part_of_scipy(path)) not in imported | {None}:
            yield f"{module}:{node.lineno} uses {part} without importing it"


def part_of_scipy(path):
    """The part of scipy that a path begins with, such as scipy.fft; None for other paths."""
    library, *parts = path.split(".")
    return f"scipy.{parts[0]}" if library == "scipy" and parts else None


def form_violations(module, tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"{module}:{node.lineno} has a relative import; write the full name"
        if isinstance(node, ast.ImportFrom | ast.Import) and any(alias.name == "*" for alias in node.names):
            yield f"{module}:{node.lineno} imports all names of a module; name those that it needs"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (n := body_lines(node)) > MOST_BODY_LINES:
            yield f"{module}:{node.lineno} {node.name} has {n} lines of body; {MOST_BODY_LINES} are the most"
    if tree.body and (n := tree.body[-1].end_lineno) > MOST_LINES:
        yield f"{module} has {n} lines; {MOST_LINES} are the most"
    if module in PACKAGES - FRONT_DOORS and len(tree.body) != 1:
        yield f"{module}/__init__.py holds more than a docstring"


def body_lines(function):
    """Lines of a function's body: its signature and its docstring do not count."""
    body = function.body
    if ast.get_docstring(function) is not None and len(body) > 1:
        body = body[1:]
    return body[-1].end_lineno - body[0].lineno + 1


RULES = [
    order_violations, privacy_violations, owner_violations, dynamic_import_violations, compiled_kernel_violations,
    world_violations, randomness_violations, unimported_part_violations, form_violations,
]  # fmt: skip


def violations(module, source):
    tree = source if isinstance(source, ast.AST) else ast.parse(source)
    return [violation for rule in RULES for violation in rule(module, tree)]


# --- Rules of the package as a whole


def circle_violations(trees):
    graph = {module: {found.module for found in siblings(tree)} & trees.keys() for module, tree in trees.items()}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        yield f"import circle: {' -> '.join(name or 'smalti' for name in error.args[1])}"


def package_violations(modules):
    modules = set(modules)
    for package in {module.rpartition(".")[0] for module in modules}:
        inside = {module for module in modules - PACKAGES if module.rpartition(".")[0] == package}
        if len(inside) > MOST_MODULES:
            yield f"{package or 'smalti'} has {len(inside)} modules; {MOST_MODULES} are the most"


def idle_owner_violations(trees):
    for library, owners in OWNERS.items():
        for owner in owners:
            inside = [tree for module, tree in trees.items() if below(module, owner)]
            if not any(entry(found.path) == library for tree in inside for found in imports(tree)):
                yield f"{owner} owns {library} and does not import it"


# --- The package keeps the rules


def test_the_import_rule_holds():
    found = [violation for module, tree in TREES.items() for violation in violations(module, tree)]
    found += [*circle_violations(TREES), *package_violations(FILES), *idle_owner_violations(TREES)]
    assert not found, "\n" + "\n".join(sorted(found))


def test_the_page_shows_the_order_and_the_owners():
    page = PAGE.read_text(encoding="utf-8")
    block = page.partition("src/smalti/\n")[2].partition("```")[0]
    lines = [re.split("/| {3,}", line.strip())[0].split() for line in block.splitlines()]
    heights = [{HEIGHT[name] for name in names} for names in lines]
    assert {name for names in lines for name in names} == HEIGHT.keys()
    assert [len(own) for own in heights] == [1] * len(lines), "entries of a line never import each other"
    assert [min(own) for own in heights] == sorted(min(own) for own in heights)

    table = page.partition("| library | imported by |\n|---|---|\n")[2].partition("\n\n")[0]
    shown = {}
    for row in table.splitlines():
        libraries, owners = row.strip("| ").split(" | ")
        for library in libraries.split(", "):
            shown[library.replace("-", "_")] = {name.replace("/", ".") for name in re.findall("`(.+?)`", owners)}
    assert shown == OWNERS


# --- The rules see what they should


LONG_BODY = "def long():\n" + "    x = 1\n" * 81
VIOLATIONS = [
    # Every form of import is seen, at the top of a module and inside a function.
    ("dsp.stft", "import smalti.cli.main", "not in an earlier set"),
    ("dsp.stft", "import smalti.cli.main as main", "not in an earlier set"),
    ("dsp.stft", "from smalti.cli import main", "imports cli.main, which is not in an earlier set"),
    ("dsp.stft", "from smalti.cli.main import run as go", "imports cli.main, which is not in an earlier set"),
    ("dsp.stft", "from smalti import cli", "imports cli, which is not in an earlier set"),
    ("dsp.stft", "def f():\n    from smalti.cli import main", "not in an earlier set"),
    ("dsp.stft", "class A:\n    import smalti.cli", "not in an earlier set"),
    ("dsp.stft", "try:\n    import smalti.cli\nexcept ImportError:\n    pass", "not in an earlier set"),
    ("dsp.stft", "import importlib\nimportlib.import_module('smalti.cli')", "not in an earlier set"),
    ("dsp.stft", "import importlib as il\nil.import_module('smalti.cli')", "not in an earlier set"),
    ("dsp.stft", "from importlib import import_module\nimport_module('smalti.cli')", "not in an earlier set"),
    ("dsp.stft", "from importlib import import_module as load\nload('smalti.cli.main')", "not in an earlier set"),
    ("dsp.stft", "__import__('smalti.cli')", "not in an earlier set"),
    # The order.
    ("nmf.exact", "import smalti.dsp.stft", "not in an earlier set"),
    ("curves", "import smalti.settings", "not in an earlier set"),
    ("workflows.make", "import smalti", "imports everything"),
    ("workflows.make", "from smalti import mosaic", "imports everything"),
    ("studio.page", "", "studio has no place in ORDER"),
    # Names that are computed.
    ("io.image", "import importlib\nimportlib.import_module(name)", "name is computed"),
    ("io.image", "from importlib import import_module as load\nload('PIL' + x)", "name is computed"),
    ("io.image", "import importlib\nload = importlib.import_module", "name is computed"),
    ("io.image", "import importlib\nlist(map(importlib.import_module, names))", "name is computed"),
    # Private modules and names.
    ("mosaicing.solve", "from smalti.nmf import _newton", "private to nmf"),
    ("mosaicing.solve", "def f():\n    import smalti.nmf._newton", "private to nmf"),
    ("mosaicing.solve", "from smalti.nmf.exact import _advance", "private name _advance of nmf.exact"),
    ("mosaicing.solve", "from smalti.nmf import exact\nexact._advance(1)", "uses the private name nmf.exact._advance"),
    ("mosaicing.solve", "import smalti.nmf.exact as e\ne._advance", "uses the private name nmf.exact._advance"),
    # Owners.
    ("io.files", "import soundfile", "only io.sound_read, io.sound_write may"),
    ("io.files", "from PIL import Image", "only io.image may"),
    ("nmf._kernels", "def f():\n    import numba.core", "only _numba may"),
    ("io.files", "import sqlite3", "only corpora.store, corpora.writer may"),
    ("workflows.make", "import pandas", "pandas, which has no owner"),
    ("workflows.make", "def f():\n    from torch.nn import Module", "torch, which has no owner"),
    ("io.examples", "import pooch", "imports pooch at its top"),
    ("io.image", "import importlib\nimage = importlib.import_module('PIL.Image')", "imports PIL at its top"),
    ("nmf.blockwise", "from smalti.nmf import _kernels", "imports nmf._kernels at its top"),
    # Files, clocks, threads and screens.
    ("dsp.stft", "import os.path", "imports os, but works on arrays alone"),
    ("dsp.stft", "from time import perf_counter", "imports time, but works on arrays alone"),
    ("mosaicing.job", "def f():\n    import threading", "imports threading, but works on arrays alone"),
    ("score.edit", "import codecs", "imports codecs, but works on arrays alone"),
    ("grains.sound", "import importlib\nimportlib.import_module('json')", "imports json, but works on arrays alone"),
    ("dsp.stft", "from importlib import util", "uses importlib.util, but"),
    ("dsp.stft", "from importlib.util import find_spec", "uses importlib.util.find_spec, but"),
    ("dsp.stft", "import scipy.io.wavfile", "uses scipy.io.wavfile, but"),
    ("dsp.stft", "from scipy import io", "uses scipy.io, but"),
    ("dsp.stft", "import scipy\nscipy.io.loadmat(x)", "uses scipy.io.loadmat, but"),
    ("dsp.stft", "open(x)", "uses open, but"),
    ("dsp.stft", "say = print", "uses print, but"),
    ("dsp.stft", "import numpy as np\nnp.load(x)", "uses numpy.load, but"),
    ("dsp.stft", "import numpy\nnumpy.savez_compressed(x)", "uses numpy.savez_compressed, but"),
    ("dsp.stft", "from numpy import save as keep", "uses numpy.save, but"),
    ("dsp.stft", "import numpy as np\nnp.lib.format.open_memmap(x)", "uses numpy.lib.format.open_memmap, but"),
    ("dsp.stft", "(a + b).tofile(x)", "uses ?.tofile, but"),
    ("dsp.stft", "a.dump(x)", "uses a.dump, but"),
    # Randomness.
    ("workflows.demo", "import random", "imports random"),
    ("workflows.demo", "from numpy.random import default_rng", "imports numpy.random.default_rng"),
    ("workflows.demo", "import numpy as np\nnp.random.seed(3)", "uses numpy.random.seed"),
    ("workflows.demo", "import numpy\nnumpy.random.rand(3)", "uses numpy.random.rand"),
    ("workflows.demo", "import numpy as np\nnp.random.default_rng()", "without a seed"),
    ("workflows.demo", "import numpy as np\nnp.random.default_rng(None)", "without a seed"),
    ("dsp.stft", "import numpy as np\nnp.fromregex('x')", "works on arrays alone"),
    ("dsp.stft", "import contextlib\ncontextlib.redirect_stdout(x)", "works on arrays alone"),
    # Parts of scipy.
    ("plots.spectrogram", "import scipy.sparse\nscipy.fft.rfft(x)", "uses scipy.fft without importing it"),
    # Forms and sizes.
    ("dsp.stft", "from . import bands", "relative import"),
    ("dsp.stft", "from smalti.dsp.bands import *", "imports all names"),
    ("dsp.stft", LONG_BODY, "long has 81 lines of body; 80 are the most"),
    ("dsp.stft", f"class A:\n    async {LONG_BODY}".replace("\n    x", "\n        x"), "81 lines of body"),
    ("dsp.stft", "x = 1\n" * 601, "has 601 lines; 600 are the most"),
    ("dsp", '"""Signals."""\nfrom smalti.dsp.stft import stft', "holds more than a docstring"),
]


@pytest.mark.parametrize(("module", "source", "sentence"), VIOLATIONS)
def test_the_rules_refuse(module, source, sentence):
    assert any(sentence in violation for violation in violations(module, source)), violations(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("dsp.stft", "from smalti import _checks\nfrom smalti._checks import Floats, check_sound"),
        ("dsp.stft", "from smalti.dsp import bands\nimport smalti.dsp.channels"),
        ("dsp.stft", "from collections.abc import Iterator\nimport numpy as np\ndef f():\n    import scipy.signal"),
        ("dsp.stft", "import numpy as np\ndef f(rng: np.random.Generator):\n    np.random.default_rng(rng)"),
        ("dsp.stft", "import numpy as np\nnp.random.default_rng(seed=3)"),
        ("dsp.stft", f'def f(\n    x: int,\n) -> None:\n    """Words.\n{"words" * 3}\n"""\n' + "    x = 1\n" * 80),
        ("nmf.exact", "def f():\n    from smalti.nmf import _newton"),
        ("nmf._newton", "from smalti.nmf import _kernels"),
        ("errors", "from importlib.util import find_spec"),
        ("grains.nearest", "import importlib\ndef f():\n    importlib.import_module('faiss')"),
        ("dsp.stft", "import scipy.fft as fft\nfrom scipy.ndimage import label\nfft.rfft(label)"),
        ("io.files", "import os\nopen(x)\nprint(x)"),
        ("cli.main", "import smalti\nimport typer"),
        ("", "from importlib import import_module\nimport_module(names[name])"),
    ],
)
def test_the_rules_allow(module, source):
    assert violations(module, source) == []


def test_circles_and_full_packages_and_idle_owners_are_found():
    lazy = "def f():\n    from smalti.dsp.stft import stft"
    trees = {"dsp.bands": ast.parse(lazy), "dsp.stft": ast.parse("import smalti.dsp.bands")}
    (circle,) = circle_violations(trees)
    assert sorted(set(re.findall(r"dsp\.\w+", circle))) == ["dsp.bands", "dsp.stft"]
    full = [f"dsp.a{i}" for i in range(12)]
    assert list(package_violations([*full, "dsp", "nmf.a"])) == []
    assert list(package_violations([*full, "dsp.b"])) == ["dsp has 13 modules; 12 are the most"]
    idle = list(idle_owner_violations(TREES | {"_numba": ast.parse("")}))
    assert idle == ["_numba owns numba and does not import it"]
