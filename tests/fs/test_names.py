"""The pure part of paths agrees with `pathlib`, and keeps every byte."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wofs
from wofs.device import BytesDevice

NAME = st.binary(min_size=1, max_size=12).filter(
    lambda raw: b"/" not in raw and b"\0" not in raw and raw not in (b".", b"..")
)
PATHS = st.text("ab./", max_size=20)


@pytest.fixture(scope="module")
def root(image: Callable[[str], Path]) -> wofs.Path:
    data = image("empty").read_bytes()
    return wofs.open(BytesDevice(data)).root


@given(given_path=PATHS)
def test_parts_are_pathlibs(root: wofs.Path, given_path: str) -> None:
    ours, theirs = root / given_path, PurePosixPath("/") / given_path
    if str(theirs).startswith("//"):  # POSIX leaves two slashes to the system; here they are one
        theirs = PurePosixPath("/" + str(theirs).lstrip("/"))
    assert ours.parts == theirs.parts
    assert str(ours) == str(theirs)
    assert ours.name == theirs.name
    assert str(ours.parent) == str(theirs.parent)
    assert [str(p) for p in ours.parents] == [str(p) for p in theirs.parents]


@given(name=st.text("ab.", min_size=1, max_size=8).filter(lambda n: n not in (".", "..")))
def test_suffix_and_stem_are_pathlibs(root: wofs.Path, name: str) -> None:
    ours, theirs = root / name, PurePosixPath("/") / name
    if not name.endswith(".") and not name.startswith(".."):  # pathlib 3.14 changed its mind
        assert (ours.suffix, ours.stem) == (theirs.suffix, theirs.stem)
        assert ours.suffixes == theirs.suffixes


@given(names=st.lists(NAME, min_size=1, max_size=5))
def test_bytes_survive(root: wofs.Path, names: list[bytes]) -> None:
    path = root.joinpath(*names)
    raw = b"/" + b"/".join(names)
    assert bytes(path) == raw
    assert path == root / raw == root / os.fsdecode(raw)
    assert hash(path) == hash(root / raw)
    assert path.name_bytes == names[-1]


@given(first=PATHS, second=PATHS)
def test_order_is_pathlibs(root: wofs.Path, first: str, second: str) -> None:
    a, b = root / ("x/" + first), root / ("x/" + second)
    pa, pb = PurePosixPath("/x/" + first), PurePosixPath("/x/" + second)
    assert (a < b, a <= b, a > b, a >= b) == (pa < pb, pa <= pb, pa > pb, pa >= pb)
    assert (a == b) == (pa == pb)


def test_absolute_starts_over(root: wofs.Path) -> None:
    assert root / "a" / "/b" == root / "b"
    assert root.joinpath("a", b"/b", PurePosixPath("c")) == root / "b/c"


def test_with_name_and_relative_to(root: wofs.Path) -> None:
    assert (root / "a/b").with_name("c") == root / "a/c"
    for wrong in ("", ".", "a/b"):
        with pytest.raises(ValueError, match="invalid name"):
            (root / "a").with_name(wrong)
    assert (root / "a/b/c").relative_to("/a") == "b/c"
    assert (root / "a").relative_to(root / "a") == "."
    with pytest.raises(ValueError, match="not below"):
        (root / "a").relative_to("/b")


@given(
    given_path=PATHS.filter(lambda path: path.strip("./")),
    pattern=st.text("ab*?./[]", min_size=1, max_size=8),
)
def test_match_is_pathlibs(root: wofs.Path, given_path: str, pattern: str) -> None:
    ours, theirs = root / given_path, PurePosixPath("/", given_path.lstrip("/"))
    if ".." in theirs.parts or pattern.startswith("//") or "[" in pattern:
        return  # pathlib keeps two slashes; sets are the business of fnmatch
    if len(theirs.parts) <= len(PurePosixPath(pattern).parts):
        return  # in pathlib "?" matches the root's slash too
    try:
        truth = theirs.match(pattern)
    except ValueError:
        truth = None
    if truth is None or not pattern.strip("./"):
        return
    assert ours.match(pattern) == truth


@given(
    name=st.text("ab.", min_size=1, max_size=6).filter(lambda n: n.strip(".") and n[-1] != "."),
    suffix=st.text("ab./", max_size=4),
)
def test_with_suffix_is_pathlibs(root: wofs.Path, name: str, suffix: str) -> None:
    if name.startswith("..") or suffix.endswith(".") or ".." in suffix:
        return  # pathlib 3.14 changed its mind
    ours, theirs = root / name, PurePosixPath("/") / name
    try:
        truth = str(theirs.with_suffix(suffix))
    except ValueError:
        with pytest.raises(ValueError, match="invalid"):
            ours.with_suffix(suffix)
    else:
        assert str(ours.with_suffix(suffix)) == truth
        assert str(ours.with_stem("x")) == str(theirs.with_stem("x"))


def test_every_path_is_absolute(root: wofs.Path) -> None:
    path = root / "a"
    assert (path.is_absolute(), path.anchor, path.root) == (True, "/", "/")
    with pytest.raises(TypeError):
        os.fspath(path)  # type: ignore[call-overload]  # it is no file of this machine
    with pytest.raises(ValueError, match="empty"):
        path.match("")


def test_paths_of_two_images_differ(root: wofs.Path, image: Callable[[str], Path]) -> None:
    with wofs.open(image("empty")) as other:
        assert root / "a" != other.path("a")
        with pytest.raises(TypeError):
            assert root / "a" < other.path("b")
    assert (root / "a") != "/a"
    assert repr(root / "a") == "Path('/a')"
