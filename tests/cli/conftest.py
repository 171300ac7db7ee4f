"""Fixtures of the command line's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import kernel
from support.cli import Run, runner


@pytest.fixture
def wofs(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """The command, run in this process."""
    return runner(capfdbinary)


@pytest.fixture(scope="module")
def kernel_view(
    image: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The image `default` mounted by the kernel."""
    why = kernel.lacking()
    if why is not None:
        pytest.skip(why)
    with kernel.seen_by_kernel(image("default"), tmp_path_factory.mktemp("kernel")) as folder:
        yield folder
