"""Imports point inward, and nothing below the edges reaches for the world: read from the syntax trees of the code."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import smalti

PACKAGE = Path(smalti.__file__).parent


def dotted(file):
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    # A package inside the package is called by its folder's name.
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


PLACES = {dotted(file): file for file in sorted(PACKAGE.rglob("*.py"))}
MODULES = sorted(PLACES.keys() - {"__init__"})

# From the ground up; a module imports its own floor or a lower one. A folder is one entry.
FLOORS = {
    "ground": {"errors", "_checks"},
    "kernels": {
        "attacks",
        "shaping",
        "shifting",
        "views",
        "voices",
        "stft",
        "bands",
        "channels",
        "cleaning",
        "levels",
        "pitch",
        "divergence",
        "constraints",
        "grains",
        "activations",
        "compiled",
        "engine",
        "steps",
        "sparse_coding",
        "phase",
        "compiled_search",
        "compiling",
        "curves",
        "search",
        "workers",
        "exact",
        "descent",
    },
    "things": {"corpus", "dictionary", "synthesis", "metrics", "transposing"},
    "job": {
        "blending",
        "choosing",
        "editing",
        "sketching",
        "settings",
        "jobs",
        "following",
        "mosaicing",
        "items",
        "records",
        "rendering",
        "score",
        "searching",
        "summing",
        "swapping",
    },
    "edges": {
        "audio",
        "exporting",
        "players",
        "scorefile",
        "finding",
        "stemfiles",
        "shelves",
        "segmenting",
        "analysing",
        "lending",
        "collecting",
        "examples",
        "plots",
        "pictures",
        "demo",
        "making",
        "reading",
        "memory",
        "outputs",
        "reporting",
        "judging",
        "listening",
    },
    "faces": {"terminal", "cli", "cli_corpus", "cli_score", "__main__"},
}
FLOOR_OF = {entry: floor for floor, entries in FLOORS.items() for entry in entries}


def floor(module):
    entry = module.partition(".")[0]
    assert entry in FLOOR_OF, f"{entry} has no floor; give it one here and in docs/architecture.md"
    return FLOOR_OF[entry]


def height(module):
    return list(FLOORS).index(floor(module))


BELOW_THE_EDGES = [module for module in MODULES if FLOOR_OF.get(module.partition(".")[0]) not in ("edges", "faces")]
# The one room whose business is threads: it runs kernels on every core, and knows nothing else of the world.
THREADS = {"workers": {"os", "threading"}}

# Libraries with one place each.
OWNERS = {
    "soundfile": {"audio"},
    "soxr": {"audio"},
    "matplotlib": {"plots"},
    "PIL": {"pictures"},
    "pooch": {"examples"},
    "requests": {"examples"},
    "sqlite3": {"shelves"},
    "msgspec": {"scorefile"},
    "typer": {"cli", "cli_corpus", "cli_score"},
    "rich": {"cli", "cli_corpus", "terminal"},
}
# Libraries that are loaded when they are first needed.
LAZY = {"pooch", "requests"}

# What arrays do not need: files, clocks, threads, processes, the interpreter, the world's randomness.
WORLD = {
    "asyncio", "atexit", "concurrent", "datetime", "glob", "http", "io", "locale", "logging", "multiprocessing", "os",
    "pathlib", "pickle", "platform", "queue", "random", "secrets", "shutil", "signal", "socket", "subprocess", "sys",
    "tempfile", "threading", "time", "urllib", "uuid",
}  # fmt: skip
SPOKEN = {"open", "print", "input", "exec", "eval", "__import__"}


class Import(NamedTuple):
    """One imported module, dotted; `at_top` where importing the importer imports it."""

    module: str
    at_top: bool


@cache
def tree(module):
    return ast.parse(PLACES[module].read_text(encoding="utf-8"))


@cache
def imports(module):
    """Everything `module` imports, in whatever form and wherever in it."""
    inside_functions = {
        id(inner)
        for outer in ast.walk(tree(module))
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(outer)
    }
    found = []
    for node in ast.walk(tree(module)):
        at_top = id(node) not in inside_functions
        if isinstance(node, ast.Import):
            found += [Import(alias.name, at_top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import in line {node.lineno}; write the full name"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = node.module == "smalti" or inner.removeprefix("smalti.") in PLACES
                found.append(Import(inner if is_module else node.module, at_top))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found.append(Import(ast.literal_eval(node.args[0]), at_top))
    return found


def siblings(module):
    """The modules of the package that `module` imports."""
    names = [name.removeprefix("smalti.") for name, _ in imports(module) if name.startswith("smalti.")]
    return sorted({name for name in names if name in PLACES})


def roots(module):
    return {name.partition(".")[0] for name, _ in imports(module)}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_inward(module):
    own = height(module)
    upward = [name for name in siblings(module) if height(name) > own]
    assert not upward, f"{module} imports {upward} from a floor above its own, {floor(module)}"


@pytest.mark.parametrize("module", [module for module in MODULES if module not in FLOORS["faces"]])
def test_only_faces_import_the_package_as_a_whole(module):
    # Its root imports everything, so to import it is to import every floor.
    names = {name for name, _ in imports(module) if name == "smalti" or name.startswith("smalti.")}
    assert names == {f"smalti.{name}" for name in siblings(module)}


def test_no_circle_of_imports():
    order = list(TopologicalSorter({module: siblings(module) for module in MODULES}).static_order())
    assert sorted(order) == MODULES
    # The walk sees what it should: one import of each kind that is known to be there.
    assert order.index("divergence") < order.index("engine") < order.index("activations")
    assert Import("smalti.plots", False) in imports("making")


@pytest.mark.parametrize(("library", "owners"), OWNERS.items())
def test_a_library_of_the_world_has_one_place(library, owners):
    assert {module for module in PLACES if library in roots(module)} == owners


@pytest.mark.parametrize("library", sorted(LAZY))
def test_the_network_is_loaded_when_first_needed(library):
    assert not [name for name in imports("examples") if name.module.partition(".")[0] == library and name.at_top]


def test_pictures_are_read_by_a_library_that_is_loaded_when_first_needed():
    assert Import("PIL.Image", False) in imports("pictures")


def test_the_loudness_meter_has_one_place_and_is_loaded_when_first_needed():
    # Arrays only, so it may stand among the kernels; but it loads scipy.signal.
    assert {module for module in PLACES if "pyloudnorm" in roots(module)} == {"levels"}
    assert Import("pyloudnorm", False) in imports("levels")
    assert Import("scipy.signal", False) in imports("levels")


def test_the_pitch_tracker_has_one_place_and_is_loaded_when_first_needed():
    # Arrays only, too; but it is an extra, and loads a runtime for networks.
    assert {module for module in PLACES if "swift_f0" in roots(module)} == {"pitch"}
    assert Import("swift_f0", False) in imports("pitch")
    assert not {module for module in PLACES if "onnxruntime" in roots(module)}


def test_the_compiler_has_its_places_and_is_loaded_when_first_needed():
    compiled = {"compiled", "compiled_search", "descent"}
    assert {module for module in PLACES if "numba" in roots(module)} <= {"compiling", *compiled}
    assert not [name for name in imports("compiling") if name.module.startswith("numba") and name.at_top]
    for module in set(PLACES) - compiled:
        assert not [name for name in compiled if Import(f"smalti.{name}", True) in imports(module)]


def test_threads_have_one_place():
    assert {module for module in BELOW_THE_EDGES if roots(module) & {"threadpoolctl", "threading"}} == {"workers"}


@pytest.mark.parametrize("module", BELOW_THE_EDGES)
def test_nothing_below_the_edges_imports_the_world(module):
    assert roots(module) & WORLD == THREADS.get(module, set())
    assert roots(module) & OWNERS.keys() == set()


@pytest.mark.parametrize("module", BELOW_THE_EDGES)
def test_nothing_below_the_edges_opens_or_prints(module):
    calls = [node.func.id for node in ast.walk(tree(module)) if isinstance(node, ast.Call) and hasattr(node.func, "id")]
    assert not SPOKEN & set(calls)
    numpys_files = {"np.load", "np.save", "np.savez", "np.loadtxt", "np.savetxt", "np.fromfile", "np.memmap"}
    assert not numpys_files & {ast.unparse(node) for node in ast.walk(tree(module)) if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize("module", sorted(PLACES))
def test_randomness_comes_from_generators_that_are_passed_in(module):
    assert "random" not in roots(module)
    assert not [name for name, _ in imports(module) if name.startswith("numpy.random")]
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np.random", "numpy.random"):
            assert node.attr in ("default_rng", "Generator"), f"{module} line {node.lineno}"
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("default_rng"):
            assert node.args, f"{module} line {node.lineno} draws a generator without a seed"
