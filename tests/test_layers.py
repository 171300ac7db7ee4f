"""The rules of the house, checked on the source: who imports whom, what happens only where.

Every import counts, also inside a function. There is no list of exceptions.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parent.parent

LEVELS = {
    "errors": 0,
    "units": 0,
    "page": 0,
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
    "campaign": 7,
    "cli": 8,
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
C_FUNCTION_LINES = 60
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


def module_of(path: str) -> str:
    """Return the dotted name of a file of wofs; a package's for its __init__."""
    return path.rpartition(".")[0].removesuffix("/__init__").replace("/", ".")


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


def attributes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of each attribute that is looked up, of anything."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.lineno, node.attr


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
    graph: dict[str, set[str]] = {}
    extensions = {module_of(p.relative_to(ROOT).as_posix()) for p in ROOT.glob("wofs/**/*.pyi")}
    names = {module_of(path) for path, _ in PACKAGE} | extensions
    for path, tree in PACKAGE:
        graph[module_of(path)] = {
            found
            for _, name in imports(tree)
            for found in [name if name in names else name.rpartition(".")[0]]
            if found in names
        }
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
    assert not offences(home, calls, r"logging\.basicConfig|\w+\.addHandler")


def test_only_devices_open_images() -> None:
    home = ("wofs/device/", "wofs/pack/", "wofs/corrupt/", "wofs/fuse/", "wofs/demo/", "wofs/cli/")
    assert not offences(home, calls, r"open|(os|io)\.(open|pread|preadv|fdopen)|mmap\.mmap")


def test_only_copies_and_caches_are_written() -> None:
    """What opens for writing: copies, unpacked images, what the processes say."""
    mode = r"[wax]b?\+?|r\+b?|rb\+"

    def for_writing(tree: ast.Module) -> Iterator[tuple[int, str]]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in ("O_WRONLY", "O_RDWR", "O_CREAT"):
                yield node.lineno, node.attr
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("open"):
                values = [*node.args, *(word.value for word in node.keywords)]
                modes = [value.value for value in values if isinstance(value, ast.Constant)]
                yield from ((node.lineno, f"{m!r}") for m in modes if re.fullmatch(mode, str(m)))

    home = ("wofs/cli/", "wofs/fuse/", "wofs/demo/", "wofs/pack/", "wofs/corrupt/")
    assert not offences(home, for_writing, ".*")
    temporary = r"tempfile\.\w+|\w+\.write_(bytes|text)"
    copies = "wofs/campaign/mounted.py"  # a mount needs a file
    assert not offences((*home, "wofs/device/", copies), calls, temporary)
    for module in ("base", "file", "codec", "crc", "faulty"):
        tree = ast.parse((ROOT / f"wofs/device/{module}.py").read_text())
        assert not [name for _, name in calls(tree) if re.fullmatch(temporary, name)]


def test_no_image_is_mapped() -> None:
    assert not offences(("wofs/slab/",), imports, r"mmap(\..*)?"), "truncation would raise SIGBUS"


def test_only_the_fuse_side_touches_its_device() -> None:
    def named(tree: ast.Module) -> Iterator[tuple[int, str]]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node.value == "/dev/fuse":
                yield node.lineno, "/dev/fuse"

    assert not offences(("wofs/fuse/",), named, ".*")


def test_only_the_mount_fills_the_slab() -> None:
    home = ("wofs/xfs/mount.py", "wofs/slab/", "wofs/demo/")
    assert not offences(home, attributes, "init_once|init_batch")
    assert not offences(home, calls, r"(\w+\.)*arena\.finish|Arena\.(create|attach)")


def test_only_the_buffers_make_blocks() -> None:
    assert not offences(("wofs/xfs/buffer.py",), calls, r"(\w+\.)?Block")


def test_modules_are_loaded_by_name_for_verbs_alone() -> None:
    pattern = r"(importlib\.)?import_module|__import__"
    assert not offences(("wofs/cli/main.py",), calls, pattern), "no test would see what it imports"


def test_no_error_is_swallowed_whole() -> None:
    """A handler of everything does something with it, and no handler is empty."""
    wrong = []
    for path, tree in PACKAGE:
        for node in ast.walk(tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            empty = all(isinstance(item, ast.Pass | ast.Continue) for item in node.body)
            caught = "" if node.type is None else ast.unparse(node.type)
            if caught == "" or (empty and re.search(r"\b(Base)?Exception\b", caught)):
                wrong.append(f"{path}:{node.lineno}: except {caught}")
    assert not wrong, "\n".join(wrong)


# ---- sizes
def functions(tree: ast.Module) -> Iterator[tuple[str, int, int]]:
    """Yield (name, line, number of lines) of each function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1


def test_sizes() -> None:
    long = []
    for path, tree in EVERYTHING:
        lines = (ROOT / path).read_text().count("\n")
        if lines > FILE_LINES:
            long.append(f"{path}: {lines} lines")
        for name, line, length in functions(tree):
            if length > FUNCTION_LINES:
                long.append(f"{path}:{line}: {name} has {length} lines")
    assert not long, "\n".join(long)


def test_most_functions_and_files_are_short() -> None:
    lengths = sorted(length for _, tree in PACKAGE for _, _, length in functions(tree))
    assert median(lengths) <= 12
    assert lengths[len(lengths) * 95 // 100] <= 45
    assert median((ROOT / path).read_text().count("\n") for path, _ in PACKAGE) <= 250


C_FUNCTION = re.compile(r"^(?![ \t#/}]|(?:typedef|struct|enum|union)\b).*\([^;]*\n?\{$", re.M)


def c_functions(text: str) -> Iterator[tuple[int, int]]:
    """Yield (line, number of lines) of each function of a C file in our layout."""
    for match in C_FUNCTION.finditer(text):
        end = text.find("\n}", match.end())
        yield text.count("\n", 0, match.start()) + 1, text.count("\n", match.start(), end) + 2


def test_sizes_of_c() -> None:
    files = sorted(ROOT.glob("wofs/**/*.[ch]"))
    long = [path.name for path in files if path.read_text().count("\n") > FILE_LINES]
    found = {path.name: list(c_functions(path.read_text())) for path in files}
    assert sum(map(len, found.values())) > 50, "the functions are not recognised any more"
    long += [
        f"{name}:{line}: {length} lines"
        for name, lengths in found.items()
        for line, length in lengths
        if length > C_FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


# ---- what is written for people
def undocumented(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of each public module, class and function without a docstring."""
    if not ast.get_docstring(tree):
        yield 1, "the module"
    todo: list[tuple[ast.AST, str]] = [(tree, "")]
    while todo:
        above, prefix = todo.pop()
        for node in ast.iter_child_nodes(above):
            if isinstance(node, ast.If | ast.Try | ast.With):
                todo.append((node, prefix))
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            name = prefix + node.name
            if node.name.startswith("_"):
                continue
            repeated = {ast.unparse(mark).rpartition(".")[2] for mark in node.decorator_list}
            if not repeated & {"overload", "setter"} and not ast.get_docstring(node):
                yield node.lineno, name
            if isinstance(node, ast.ClassDef):
                todo.append((node, name + "."))


def test_what_is_public_is_documented() -> None:
    assert not offences((), undocumented, ".*")


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
