"""The import rule of docs/architecture.md, read from the syntax trees: every violation is printed at once."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import smalti

PACKAGE = Path(smalti.__file__).parent

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
}
PURE |= {"mosaicing"}
WORLD = {
    "asyncio", "atexit", "concurrent", "datetime", "glob", "http", "io", "locale", "logging", "multiprocessing", "os",
    "pathlib", "pickle", "platform", "queue", "random", "secrets", "shutil", "signal", "socket", "subprocess", "sys",
    "tempfile", "threading", "time", "urllib", "uuid",
}  # fmt: skip
BUILTINS_OF_THE_WORLD = {"open", "print", "input", "exec", "eval", "__import__"}
NUMPY_FILES = {"load", "save", "savez", "loadtxt", "savetxt", "fromfile", "memmap"}

# Third parties that only these modules or packages may import.
OWNERS = {
    "IPython": {"io.player"},
    "PIL": {"io.image"},
    "faiss": {"grains.nearest"},
    "matplotlib": {"plots"},
    "mido": {"io.score_export"},
    "msgspec": {"io.score_file"},
    "numba": {"_numba", "nmf"},
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
# Third parties that are imported inside the functions that need them: they are extras, or slow to load.
LAZY = {"PIL", "faiss", "mido", "numba", "pooch", "pyloudnorm", "requests", "swift_f0"}

# `__init__` is a docstring, but for these: they hand names on.
FRONT_DOORS = {"", "metrics", "plots", "score"}


class Import(NamedTuple):
    """One imported module, dotted; `at_top` if importing the importer imports it."""

    module: str
    at_top: bool
    line: int


def dotted(file):
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {dotted(file): file for file in sorted(PACKAGE.rglob("*.py"))}
TREES = {module: ast.parse(file.read_text(encoding="utf-8")) for module, file in FILES.items()}


def entry(module):
    return module.partition(".")[0]


def imports(module):
    """Everything that a module imports, in whatever form and wherever in it."""
    tree = TREES[module]
    inside_functions = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(outer)
    }
    found = []
    for node in ast.walk(tree):
        at_top, names = id(node) not in inside_functions, []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [
                inner if (inner := f"{node.module}.{alias.name}").removeprefix("smalti.") in FILES else node.module
                for alias in node.names
            ]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names = [node.args[0].value] if isinstance(node.args[0], ast.Constant) else []
        found += [Import(name, at_top, node.lineno) for name in names]
    return found


def siblings(module):
    """The imports of a module that are modules of smalti, by their names inside the package."""
    return [
        found._replace(module=found.module.removeprefix("smalti").lstrip("."))
        for found in imports(module)
        if entry(found.module) == "smalti"
    ]


def order_violations():
    for module in FILES.keys() - {""}:
        own = entry(module)
        if own not in HEIGHT:
            yield f"{module}: {own} has no place in ORDER; give it one here and in docs/architecture.md"
            continue
        for found in siblings(module):
            other = entry(found.module)
            where = f"{module}:{found.line} imports {found.module or 'smalti itself'}"
            # Only `__main__` and the command line may ask for the package as a whole.
            if not found.module:
                if own not in ("cli", "__main__"):
                    yield f"{where}, which imports everything"
            elif other != own and HEIGHT[other] >= HEIGHT[own]:
                yield f"{where}, which is not in an earlier set"
            name = found.module.rpartition(".")[2]
            package = found.module.rpartition(".")[0]
            if name.startswith("_") and package and package not in (module, module.rpartition(".")[0]):
                yield f"{where}, which is private to {package}"


def private_name_violations():
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and entry(node.module or "") == "smalti":
                for alias in node.names:
                    is_module = f"{node.module}.{alias.name}".removeprefix("smalti.") in FILES
                    if alias.name.startswith("_") and not alias.name.startswith("__") and not is_module:
                        yield f"{module}:{node.lineno} imports the private name {alias.name} of {node.module}"


def owner_violations():
    for module in FILES:
        for found in imports(module):
            library = entry(found.module)
            if library in OWNERS and not {module, entry(module)} & OWNERS[library]:
                yield f"{module}:{found.line} imports {library}; only {', '.join(sorted(OWNERS[library]))} may"
            compiled = module.startswith("nmf._") and library == "numba"
            if library in LAZY and found.at_top and not compiled:
                yield f"{module}:{found.line} imports {library} at its top; import it where it is needed"


def compiled_kernel_violations():
    """Kernels load the compiler, so they are imported when they are first needed."""
    kernels = {module for module in FILES if module.startswith("nmf._")}
    for module in FILES.keys() - kernels:
        for found in siblings(module):
            if found.module in kernels and found.at_top:
                yield f"{module}:{found.line} imports {found.module} at its top; import it where it is needed"


def world_violations():
    for module, tree in TREES.items():
        if entry(module) not in PURE:
            continue
        for found in imports(module):
            if entry(found.module) in WORLD:
                yield f"{module}:{found.line} imports {found.module}, but works on arrays alone"
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BUILTINS_OF_THE_WORLD:
                yield f"{module}:{node.lineno} calls {node.func.id}, but works on arrays alone"
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "np" and node.attr in NUMPY_FILES:
                yield f"{module}:{node.lineno} uses np.{node.attr}, but works on arrays alone"


def randomness_violations():
    """Randomness comes from generators that are passed in and seeded."""
    for module, tree in TREES.items():
        for found in imports(module):
            if found.module == "random" or found.module.startswith("numpy.random"):
                yield f"{module}:{found.line} imports {found.module}"
        for node in ast.walk(tree):
            of_numpy = isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np.random", "numpy.random")
            if of_numpy and node.attr not in ("default_rng", "Generator"):
                yield f"{module}:{node.lineno} uses np.random.{node.attr}"
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("default_rng") and not node.args:
                yield f"{module}:{node.lineno} makes a generator without a seed"


def circle_violations():
    graph = {module: {found.module for found in siblings(module) if found.module in FILES} for module in FILES}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        yield f"import circle: {' -> '.join(name or 'smalti' for name in error.args[1])}"


def form_violations():
    for module, tree in TREES.items():
        file = FILES[module]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                yield f"{module}:{node.lineno} has a relative import; write the full name"
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (n := body_lines(node)) > MOST_BODY_LINES:
                yield f"{module}:{node.lineno} {node.name} has {n} lines of body; {MOST_BODY_LINES} are the most"
        if (n := len(file.read_text(encoding="utf-8").splitlines())) > MOST_LINES:
            yield f"{module} has {n} lines; {MOST_LINES} are the most"
        if file.name == "__init__.py" and module not in FRONT_DOORS and len(tree.body) != 1:
            yield f"{module}/__init__.py holds more than a docstring"
    for folder in {file.parent for file in FILES.values()}:
        n = len([file for file in folder.glob("*.py") if file.name != "__init__.py"])
        if n > MOST_FILES:
            yield f"{folder.name} has {n} modules; {MOST_FILES} are the most"


MOST_FILES, MOST_LINES, MOST_BODY_LINES = 12, 600, 80


def body_lines(function):
    """Lines of a function's body: its signature and its docstring do not count."""
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and len(body) > 1:
        body = body[1:]
    return body[-1].end_lineno - body[0].lineno + 1


RULES = [
    order_violations, private_name_violations, owner_violations, compiled_kernel_violations, world_violations,
    randomness_violations, circle_violations, form_violations,
]  # fmt: skip


def test_the_import_rule_holds():
    found = sorted(violation for rule in RULES for violation in rule())
    assert not found, "\n" + "\n".join(found)


def test_the_walk_sees_imports_of_every_form():
    lazy = {found.module for found in siblings("nmf.blockwise") if not found.at_top}
    assert "nmf._kernels" in lazy
    at_top = {found.module for found in siblings("grains.dictionary") if found.at_top}
    assert "dsp.stft" in at_top
    assert "faiss" in {found.module for found in imports("grains.nearest")}
