"""The floors of the design: a module imports its own floor or lower ones, and stays short."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cgdcli"
LINES_A_FILE, LINES_A_FUNCTION = 450, 60

# The floor of each place directly below the package; `design.md`, section 3.
FLOORS = {
    "words": 0,
    "errors": 0,
    "config": 0,
    "reports": 0,
    "files": 0,
    "locks": 0,
    "launch": 0,
    "remote": 0,
    "model": 1,
    "images": 2,
    "datasets": 2,
    "weights": 3,
    "engines": 4,
    "index": 5,
    "auditing": 6,
    "networks": 6,
    "streaming": 6,
    "embedding": 6,
    "querying": 6,
    "retrieval": 6,
    "indexing": 6,
    "evaluation": 6,
    "profiling": 6,
    "conversion": 6,
    "exporting": 6,
    "inspection": 6,
    "judging": 6,
    "training": 6,
    "views": 7,
    "serve": 8,
    "cli": 8,
    "__main__": 8,
}
# A run's folder holds its page, whoever started the run: the one job that renders what it made.
UPWARD = {("cgdcli.judging.report", "cgdcli.views.run_page")}
# Nothing here may load torch: floor 0, pictures, headers, the index and the views.
NO_TORCH = {
    "words",
    "errors",
    "config",
    "reports",
    "files",
    "remote",
    "images",
    "datasets",
    "index",
    "views",
}
NO_TORCH_FILES = {
    "weights/header.py",
    "weights/sources.py",
    "cli/__init__.py",
    "cli/options.py",
    "__init__.py",
}

FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path, package=PACKAGE):
    """Dotted module name; a package's `__init__` is the package."""
    parts = (package.name, *path.relative_to(package).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def imports(source, module, is_package=False):
    """Every module that `source` imports anywhere, functions and TYPE_CHECKING included."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            if node.level:
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, *([node.module] if node.module else [])])
            else:
                base = node.module
            # `from cgdcli import config` names a module, `from cgdcli.config import X` does not.
            found |= {
                f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names
            }
    return found


def file_imports(path):
    return imports(path.read_text(), name_of(path), path.name == "__init__.py")


def floor(module):
    """None for the package itself, which hands out names of every floor on demand."""
    parts = module.split(".")
    return FLOORS[parts[1]] if len(parts) > 1 else None


def upward(module, imported):
    own = floor(module)
    return sorted(
        name
        for name in imported
        if name.split(".")[0] == "cgdcli"
        and own is not None
        and (floor(name) is None or floor(name) > own)
        and name != "cgdcli"
    )


def test_every_place_has_a_floor():
    places = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert places - {"__init__"} == set(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_import_goes_up(path):
    module = name_of(path)
    assert {(module, name) for name in upward(module, file_imports(path))} <= UPWARD


@pytest.mark.parametrize(
    "line",
    [
        "from cgdcli.index.store import EmbeddingIndex",
        "import cgdcli.index.store",
        "import cgdcli.cli as front",
        "from cgdcli import conversion",
        "from cgdcli.index import store",
        "from ..index import store",
        "def f():\n    from cgdcli.views.tables import lines",
        "if True:\n    class A:\n        import cgdcli.training.loop",
    ],
)
def test_the_check_sees_an_import_that_goes_up(line):
    assert upward("cgdcli.weights.header", imports(line, "cgdcli.weights.header"))


@pytest.mark.parametrize(
    "line",
    ["from cgdcli.errors import X", "import cgdcli.config", "import torch", "from . import a"],
)
def test_the_check_lets_imports_down_pass(line):
    assert not upward("cgdcli.weights.header", imports(line, "cgdcli.weights.header"))


def test_no_cycle_among_modules():
    """Imports at the top of files only: those inside functions are there to be late."""
    graph = {}
    for module, path in MODULES.items():
        top = ast.Module(
            [
                n
                for n in ast.parse(path.read_text()).body
                if isinstance(n, ast.Import | ast.ImportFrom)
            ],
            [],
        )
        found = imports(ast.unparse(top), module, path.name == "__init__.py")
        graph[module] = {name for name in found if name in MODULES} - {module, "cgdcli"}
    done: set[str] = set()

    def visit(module, way):
        assert module not in way, " -> ".join([*way, module])
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, [*way, module])
            done.add(module)

    for module in graph:
        visit(module, [])
    assert done == set(MODULES)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_torch_stays_on_its_floors(path):
    place = path.relative_to(PACKAGE)
    if place.parts[0].removesuffix(".py") in NO_TORCH or place.as_posix() in NO_TORCH_FILES:
        heavy = {name.split(".")[0] for name in file_imports(path)} & {"torch", "torchvision"}
        assert not heavy


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LINES_A_FILE
    # From the body's first line: a command's signature has a line or three for each option.
    long = {
        node.name: node.end_lineno - node.body[0].lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in long.items() if lines > LINES_A_FUNCTION} == {}


def test_top_level_holds_nothing_else():
    import subprocess

    tracked = subprocess.run(
        ["git", "ls-files"], cwd=PACKAGE.parent, capture_output=True, text=True, check=False
    )
    if tracked.returncode:  # an unpacked source distribution
        pytest.skip("not a git checkout")
    places = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    allowed = {"cgdcli", "tests", "examples", "pyproject.toml", "LICENSE"}
    assert places <= allowed | {"README.md", ".gitignore", ".ci"}
