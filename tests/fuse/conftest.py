"""One mount for all tests that only look, and the kernel's own mount of the same image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import fuse, kernel
from support.pair import Pair


@pytest.fixture(scope="session")
def served(image: Callable[[str], Path]) -> Iterator[Path]:
    """The image "default", served to all users."""
    if reason := fuse.lacking():
        pytest.skip(reason)
    options = ("-o", "allow_other") if fuse.is_root() else ()
    with fuse.open_folder() as folder, fuse.mounted(image("default"), folder / "m", options):
        yield folder / "m"


@pytest.fixture(scope="session")
def pair(served: Path, image: Callable[[str], Path]) -> Iterator[Pair]:
    """The image "default", served, and mounted by the kernel beside."""
    if reason := kernel.lacking():
        pytest.skip(reason)
    beside = served.with_name("kernel")
    with kernel.seen_by_kernel(image("default"), beside):
        yield Pair(beside, served)
