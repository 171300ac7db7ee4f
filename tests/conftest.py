"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.images import IMAGES


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for unpacked images, shared by all workers of one run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "images"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what wofs leaves for its user (unpacked images, crash reports) out of the real home."""
    with pytest.MonkeyPatch.context() as environment:
        for what in ("CACHE", "STATE"):
            folder = tmp_path_factory.mktemp(what.lower())
            environment.setenv(f"XDG_{what}_HOME", str(folder))
        yield


@pytest.fixture(scope="session")
def image(image_folder: Path) -> Callable[[str], Path]:
    """Unpack an image of images/ by its name, once per run; nobody may write to it."""

    def unpacked(name: str) -> Path:
        path = image_folder / f"{name}.img"
        if not path.exists():
            IMAGES[name].unpack(path)
        return path

    return unpacked
