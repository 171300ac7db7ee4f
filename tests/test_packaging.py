"""What is built from this tree: its content, that it works alone, and what building lacks."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from support.images import IMAGES

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("wofs", "tests", "tools", *(p.name for p in ROOT.glob("*.*") if p.is_file()), "LICENSE")
"""What a builder sees of a clone: all but the images."""

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
EXTENSIONS = {f"wofs/slab/_slab{SUFFIX}", f"wofs/xfs/_decode{SUFFIX}"}
NO_INDEX = re.compile(r"No matching distribution found|Could not find a version|ConnectionError")


Done = subprocess.CompletedProcess[str]


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> Done:
    """Run a command, its output as text; `env` is added to the environment."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def backend(what: str, source: Path, out: Path, env: dict[str, str] | None = None) -> Done:
    """Call a PEP 517 hook of the build backend as a front end does, in the tree `source`."""
    code = f"import sys, setuptools.build_meta as backend; backend.{what}(sys.argv[1])"
    return run(sys.executable, "-c", code, out, cwd=source, env=env)


def pip_wheel(source: Path, out: Path, *options: str, env: dict[str, str] | None = None) -> Done:
    """Build a wheel of `source` into `out` by pip."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "-w", str(out)]
    return run(*command, *options, source, env=env)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree without what was built in it."""
    folder = tmp_path_factory.mktemp("clone")
    built = shutil.ignore_patterns("__pycache__", "*.so", "*.pyc")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=built)
        else:
            shutil.copy(source, folder / part)
    return folder


@pytest.fixture(scope="module")
def sdist(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution."""
    out = tmp_path_factory.mktemp("sdist")
    done = backend("build_sdist", clone, out)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(sdist: Path, image_folder: Path) -> Path:
    """The wheel, built from the source distribution, once for all workers of one run."""
    out = image_folder.parent / "wheel"
    with (image_folder.parent / "wheel.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists():
            options = ("--no-index", "--no-build-isolation")
            done = pip_wheel(sdist, out, *options, env={"WOFS_WERROR": "1"})
            assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.iterdir()
    return path


def package_files(clone: Path, *suffixes: str) -> set[str]:
    """Return the files of the package that end so, from the root of the tree."""
    paths = (p for p in (clone / "wofs").rglob("*") if p.is_file())
    return {p.relative_to(clone).as_posix() for p in paths if p.suffix in suffixes}


# ---- content
def test_the_source_distribution_holds_what_builds(clone: Path, sdist: Path) -> None:
    with tarfile.open(sdist) as tar:
        inside = {m.name.partition("/")[2] for m in tar.getmembers() if m.isfile()}
    inside = {name for name in inside if not name.startswith("wofs.egg-info/")}
    top = {"LICENSE", "README.md", "CHANGELOG.md", "MANIFEST.in", "pyproject.toml", "setup.py"}
    made = {"PKG-INFO", "setup.cfg"}
    assert inside == top | made | package_files(clone, ".py", ".pyi", ".typed", ".c", ".h")


def test_the_wheel_holds_what_runs(clone: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if not name.endswith("/")}
    facts = {name for name in inside if name.split("/")[0].endswith(".dist-info")}
    assert inside - facts == EXTENSIONS | package_files(clone, ".py", ".pyi", ".typed")
    assert "wofs/py.typed" in inside
    names = ["METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"]
    assert sorted(name.partition("/")[2] for name in facts) == names


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    assert re.fullmatch(r"wofs-[\d.]+-cp3\d+-cp3\d+-linux_\w+\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("/METADATA"))
        metadata = archive.read(name).decode()
    assert "\nLicense-Expression: ISC\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata


# ---- alone
def dependencies(of: str) -> Iterator[importlib.metadata.Distribution]:
    """Yield the installed distributions that `of` needs without extras, and what they need."""
    todo, seen = [of], {of}
    while todo:
        found = importlib.metadata.distribution(todo.pop())
        if found.name != of:
            yield found
        for requirement in map(Requirement, found.requires or ()):
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and requirement.name not in seen:
                seen.add(requirement.name)
                todo.append(requirement.name)


def tops(of: importlib.metadata.Distribution) -> list[Path]:
    """Return what lies in site-packages of a distribution.

    That is in its record; where an old pip wrote none, the names of its packages tell.
    """
    record = of.read_text("RECORD")
    if record:
        names = {file.parts[0] for file in of.files or ()} - {".."}
    else:
        names = set((of.read_text("top_level.txt") or "").split())
    return [Path(str(of.locate_file(name))) for name in names]


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed and nothing but its dependencies, no extra."""
    folder = tmp_path_factory.mktemp("site")
    for found in dependencies("wofs"):
        for path in tops(found):
            if not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
    options = ["--no-index", "--no-deps", "--no-compile", "--target", str(folder)]
    done = run(sys.executable, "-m", "pip", "install", *options, wheel)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def alone(site: Path, *arguments: str | Path) -> Done:
    """Run `wofs` with what `site` holds and nothing else installed."""
    command = [sys.executable, "-S", "-c", "from wofs.cli.main import main; main()"]
    return run(*command, *arguments, cwd=site, env={"PYTHONPATH": str(site)})


def test_the_core_reads_images(site: Path) -> None:
    image = IMAGES["default"].packed
    done = alone(site, "info", image)
    assert done.returncode == 0, done.stderr
    assert "XFS version 5" in done.stdout
    done = alone(site, "ls", image, "/files")
    assert done.returncode == 0, done.stderr
    assert "unwritten" in done.stdout.split()
    version = importlib.metadata.version("wofs")
    assert alone(site, "--version").stdout == f"wofs {version}\n"


@pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse is missing or closed"
)
def test_the_core_names_the_extra_that_mounting_needs(site: Path, tmp_path: Path) -> None:
    for where in ([], ["-f"]):
        done = alone(site, "mount", *where, IMAGES["default"].packed, tmp_path)
        assert done.returncode == 1
        assert "pip install 'wofs[fuse]'" in done.stderr
        assert done.stderr.count("\n") == 1


def test_the_core_names_the_extra_that_a_cluster_needs(site: Path) -> None:
    image = IMAGES["empty"].packed
    done = alone(site, "campaign", image, "--faults", "0", "--scheduler", "tcp://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr == "wofs: --scheduler needs Dask: pip install 'wofs[dask]'\n"


# ---- what building lacks
def refusal(tree: Path, env: dict[str, str]) -> str:
    """Return the one line with which building a wheel of `tree` is refused."""
    done = backend("build_wheel", tree, tree / "dist", env)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_no_compiler_is_said_in_one_line(clone: Path, tmp_path: Path) -> None:
    for env in ({"CC": "/nonexistent/cc"}, {"PATH": str(tmp_path)}):
        line = refusal(clone, env)
        assert re.match(r"wofs: the C compiler '.*cc' was not found", line)
        assert "apt-get install gcc" in line


NO_HEADERS = """#!/bin/sh
# A compiler of a machine without Python's headers.
for word; do
  shift
  case $word in -I*) ;; *) set -- "$@" "$word" ;; esac
done
exec cc "$@"
"""


def test_missing_headers_are_said_in_one_line(clone: Path, tmp_path: Path) -> None:
    compiler = tmp_path / "cc-without-headers"
    compiler.write_text(NO_HEADERS)
    compiler.chmod(0o755)
    line = refusal(clone, {"CC": str(compiler)})
    assert re.match(r"wofs: the C compiler .* cannot compile an extension", line)
    assert "Python.h: No such file or directory" in line
    assert "python3-dev" in line


def test_a_build_in_isolation_needs_nothing_else(sdist: Path, tmp_path: Path) -> None:
    done = pip_wheel(sdist, tmp_path)
    if done.returncode and NO_INDEX.search(done.stdout + done.stderr):
        pytest.skip("the package index cannot be reached: setuptools cannot be had in isolation")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.suffix for path in tmp_path.iterdir()] == [".whl"]
