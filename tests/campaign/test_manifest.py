"""`wofs campaign --manifest`: the kernel's word for what is right, before anything is struck."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from support.cli import Run, runner
from support.images import IMAGES, names
from wofs.campaign.manifest import contradictions

Unpack = Callable[[str], Path]
Entries = list[dict[str, object]]


@pytest.fixture
def wofs(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """The command, run in this process."""
    return runner(capfdbinary)


def changed(name: str, path: Path, change: Callable[[Entries], object]) -> Path:
    """Write the manifest of an image with a change."""
    lines = lzma.decompress(IMAGES[name].truth().read_bytes()).splitlines()
    entries = [json.loads(line) for line in lines]
    change(entries)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


@pytest.mark.parametrize("name", [n for n in names("mountable") if n != "tall"])
def test_sound_images_are_read_as_the_kernel_does(image: Unpack, name: str) -> None:
    assert not list(contradictions(str(image(name)), str(IMAGES[name].truth()), False))


CHANGES: dict[str, tuple[Callable[[Entries], object], str]] = {
    "size": (lambda e: e[-1].update(z=77), "size is"),
    "time": (lambda e: e[-1].update(bt="1.000000001"), "time is"),
    "missing": (lambda e: e.append({"p": "ghost", "t": "f"}), "names is"),
    "more": (lambda e: e.pop(), "is not in the manifest"),
    "data": (lambda e: next(x for x in e if "h" in x).update(h="00"), "data is"),
    "holes": (lambda e: next(x for x in e if x.get("s")).update(s=[]), "holes is"),
    "xattr": (lambda e: next(x for x in e if "x" in x).pop("x"), "attributes is"),
    "trusted": (
        lambda e: next(x for x in e if "trusted.SGI_ACL_FILE" in str(x.get("x"))).update(
            x={"trusted.SGI_ACL_FILE": "00"}
        ),
        "attributes is",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_differs_is_told(image: Unpack, tmp_path: Path, name: str) -> None:
    change, told = CHANGES[name]
    manifest = changed("new-defaults", tmp_path / "m", change)
    lines = list(contradictions(str(image("new-defaults")), str(manifest), False))
    assert any(told in line for line in lines), lines
    assert len(lines) <= 2


def test_a_path_below_a_directory_that_is_not_there(image: Unpack, tmp_path: Path) -> None:
    manifest = changed("empty", tmp_path / "m", lambda e: e.append({"p": "a/b", "t": "f"}))
    lines = list(contradictions(str(image("empty")), str(manifest), False))
    assert lines == ["/a/b: is not found"]


def test_a_campaign_with_a_manifest(wofs: Run, image: Unpack) -> None:
    done = wofs(
        "campaign", image("empty"), "--manifest", IMAGES["empty"].truth(), "--faults", "10",
        "--seed", "1", "--json", "-j", "1",
    )  # fmt: skip
    assert done.code == 0
    assert len(done.objects) == 10


def test_nothing_is_struck_where_the_image_is_read_otherwise(
    wofs: Run, image: Unpack, tmp_path: Path
) -> None:
    manifest = changed("empty", tmp_path / "m", lambda e: e[0].update(n=9))
    done = wofs("campaign", image("empty"), "--manifest", manifest, "--faults", "10", "--json")
    assert done.code == 1
    assert not done.objects
    assert "link count is" in done.err
    assert "by the manifest 9" in done.err
    assert "nothing was struck" in done.err


def test_what_is_no_manifest_is_usage(wofs: Run, image: Unpack, tmp_path: Path) -> None:
    (tmp_path / "m").write_text("no JSON")
    assert wofs("campaign", image("empty"), "--manifest", tmp_path / "m").code == 2
    assert wofs("campaign", image("empty"), "--manifest", tmp_path / "none").code == 2
    two = wofs("campaign", image("empty"), image("grown"), "--manifest", IMAGES["empty"].truth())
    assert two.code == 2
