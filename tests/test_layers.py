"""The rules of the house, checked on the source: who imports whom, what happens only where.

Every import counts, also inside a function. There is no list of exceptions.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LEVELS = {
    "errors": 0,
    "units": 0,
    "record": 1,
    "device": 1,
    "slab": 1,
    "ondisk": 2,
    "xfs": 3,
    "fs": 4,
    "check": 4,
    "pack": 4,
    "": 4,  # `import wofs` itself: the library's face
    "corrupt": 5,
    "fuse": 5,
    "fsspec": 5,
    "demo": 6,
    "cli": 7,
}
"""A package imports smaller numbers only."""

ONLY = {
    "": {"errors", "fs"},
    "slab": {"errors", "units", "record"},
    "ondisk": {"errors", "units", "record"},
    "fsspec": {"errors", "units", "fs"},
}
"""What a package imports, where that is not simply all of the smaller numbers."""


def allowed(mine: str) -> set[str]:
    """Return the packages that a package may import beside itself."""
    return ONLY.get(mine) or {name for name, level in LEVELS.items() if level < LEVELS[mine]}


FUNCTION_LINES = 80
FILE_LINES = 600


def parsed(pattern: str) -> list[tuple[str, ast.Module]]:
    """Return (path from the root, syntax tree) of the Python files that match."""
    paths = sorted(p for p in ROOT.glob(pattern) if p.is_file())
    return [(p.relative_to(ROOT).as_posix(), ast.parse(p.read_text())) for p in paths]


PACKAGE = parsed("wofs/**/*.py")
EVERYTHING = PACKAGE + parsed("tests/**/*.py") + parsed("tools/**/*.py") + parsed("setup.py")


def package_of(path: str) -> str:
    """Return the row of the table that a file of wofs belongs to."""
    parts = path.removesuffix(".py").split("/")[1:]
    return "" if parts == ["__init__"] else parts[0]


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of each import; `from a import b` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{prefix}.{alias.name}") for alias in node.names)


def calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of each call of a name or an attribute of a name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield node.lineno, ast.unparse(node.func)


def wofs_package(name: str) -> str | None:
    """Return the row that an imported dotted name belongs to, None when it is not of wofs."""
    parts = name.split(".")
    if parts[0] != "wofs":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in LEVELS else ""


def test_the_table_knows_every_package() -> None:
    assert {package_of(path) for path, _ in PACKAGE} <= LEVELS.keys()


def test_imports_go_down() -> None:
    wrong = []
    for path, tree in PACKAGE:
        mine = package_of(path)
        for line, name in imports(tree):
            theirs = wofs_package(name)
            if name.startswith("."):
                wrong.append(f"{path}:{line}: relative import {name}")
            if theirs is None or theirs == mine:
                continue
            below = LEVELS[theirs] < LEVELS[mine]
            if not (theirs in ONLY[mine] if mine in ONLY else below):
                wrong.append(f"{path}:{line}: {mine or 'wofs'} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_modules_do_not_import_in_circles() -> None:
    names = {path.removesuffix(".py").replace("/", ".") for path, _ in PACKAGE}
    graph: dict[str, set[str]] = {}
    for path, tree in PACKAGE:
        used = {name for _, name in imports(tree)} | {
            n.rpartition(".")[0] for _, n in imports(tree)
        }
        graph[path.removesuffix(".py").replace("/", ".")] = used & names
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def offences(
    home: tuple[str, ...], found: Callable[[ast.Module], Iterator[tuple[int, str]]], pattern: str
) -> str:
    """Return a line for each name that matches `pattern` outside the paths of `home`."""
    match = re.compile(pattern).fullmatch
    return "\n".join(
        f"{path}:{line}: {name}"
        for path, tree in PACKAGE
        if not path.startswith(home)
        for line, name in found(tree)
        if match(name)
    )


def test_errno_is_the_business_of_errmap() -> None:
    assert not offences(("wofs/fuse/errmap.py",), imports, r"errno(\..*)?")


def test_only_the_fuse_side_is_asynchronous() -> None:
    def asynchronous(tree: ast.Module) -> Iterator[tuple[int, str]]:
        for node in ast.walk(tree):
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
                yield node.lineno, "async"

    home = ("wofs/fuse/", "wofs/demo/")
    assert not offences(home, asynchronous, "async")
    assert not offences(home, imports, r"(trio|pyfuse3|asyncio)(\..*)?")


def test_only_the_command_line_and_the_demo_print() -> None:
    home = ("wofs/cli/", "wofs/demo/")
    assert not offences(home, calls, r"print|click\.s?echo|sys\.std(out|err)\.write")
    assert not offences(home, imports, r"(click|rich)(\..*)?")


def test_only_devices_open_images() -> None:
    home = ("wofs/device/", "wofs/pack/", "wofs/corrupt/", "wofs/fuse/", "wofs/demo/", "wofs/cli/")
    assert not offences(home, calls, r"open|(os|io)\.(open|pread|preadv|fdopen)|mmap\.mmap")


def test_no_image_is_mapped() -> None:
    assert not offences(("wofs/slab/",), imports, r"mmap(\..*)?"), "truncation would raise SIGBUS"


def test_sizes() -> None:
    long = []
    for path, tree in EVERYTHING:
        lines = (ROOT / path).read_text().count("\n")
        if lines > FILE_LINES:
            long.append(f"{path}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    long.append(f"{path}:{node.lineno}: {node.name} has {length} lines")
    assert not long, "\n".join(long)


def texts() -> Iterator[Path]:
    """Yield the files of the repository that people read."""
    suffixes = {".py", ".pyi", ".c", ".h", ".md", ".toml", ".json", ".sh", ".in", ""}
    for top in ("wofs", "tests", "tools", "docs", "images", ".ci"):
        yield from (
            p
            for p in ROOT.glob(f"{top}/**/*")
            if p.is_file() and p.suffix in suffixes and "__pycache__" not in p.parts
        )
    here = (p for p in ROOT.glob("*") if p.is_file() and p.suffix in suffixes)
    yield from (p for p in here if p.name != ".git")  # a file in a git worktree


FORBIDDEN = {
    # Written so that this file does not match itself.
    "a path of one machine": re.compile(r"(?<![\w.])/(wor[k]|var/tm[p]|hom[e]|roo[t])/\w"),
    "an unfinished piece": re.compile(r"\b(TOD[O]|FIXM[E])\b"),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_text_has(what: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in texts()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if FORBIDDEN[what].search(line)
    ]
    assert not wrong, "\n".join(wrong)
