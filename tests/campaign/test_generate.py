"""Faults: the same for the same seed, over all structures and fields, made by `wofs corrupt`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import wofs as library
from support.cli import child
from wofs.campaign.catalog import Catalog, generic
from wofs.campaign.child import Truth
from wofs.campaign.fault import Fault
from wofs.campaign.generate import SHARES, faults_of
from wofs.campaign.runner import apply
from wofs.corrupt.inside import inside
from wofs.corrupt.parts import KINDS, parts_of
from wofs.corrupt.target import fields_of
from wofs.errors import ImageError

Unpack = Callable[[str], Path]


def faults(path: Path, count: int, seed: int = 1) -> list[Fault]:
    """Return faults of an image."""
    with library.open(path) as fs:
        return faults_of(fs, str(path), count, seed)


def test_the_same_seed_makes_the_same_faults(image: Unpack) -> None:
    path = image("new-defaults")
    first = faults(path, 500)
    assert first == faults(path, 500)
    assert first[:100] == faults(path, 100)
    assert len({fault.key for fault in first}) == 500
    assert first != faults(path, 500, seed=2)


def test_every_field_of_every_structure_is_struck(image: Unpack) -> None:
    """With two of each field, every field that the image has is among them."""
    path = image("new-defaults")
    with library.open(path) as fs:
        catalog = Catalog(fs, 1)
        wanted = {(one.kind, one.name) for one in catalog.fields}
        there = set()
        for part in parts_of(fs.mount):
            raw = fs.mount.device.pread(part.start, part.size)
            for spot in (*fields_of(part), *inside(part, raw, fs.mount.geo)):
                name = generic(f"{spot.name}[0]" if spot.items else spot.name)
                there.add((part.kind, name))
    assert wanted - {key for key in wanted if key[0] == "log"} == there
    found = faults(path, 4 * len(wanted))
    assert {(f.structure, f.field) for f in found if f.klass == "field"} == wanted
    assert {f.structure for f in found} >= set(KINDS) - {"dirindex", "dirfree", "bmbt"} | {"data"}
    assert {f.klass for f in found} == set(SHARES)


def test_what_was_damaged_before_is_left_out(image: Unpack) -> None:
    """Without its log, a directory of this image is no sound one: the rest is struck."""
    with library.open(image("dirty-b1k"), norecovery=True) as fs:
        broken: list[ImageError] = []
        parts = list(parts_of(fs.mount, broken.append))
        with pytest.raises(ImageError):
            list(parts_of(fs.mount))
        chosen = [part for found in Catalog(fs, 1).parts.values() for part in found]
        assert len(faults_of(fs, "image", 300, 1)) == 300
        damaged = {error.where.daddr for error in broken}
        assert damaged & {part.start >> 9 for part in parts}
        assert not damaged & {part.start >> 9 for part in chosen}


def test_values_are_spread(image: Unpack) -> None:
    """All sorts of values come, with the checksum right and stale."""
    found = [f for f in faults(image("b1k-rmap"), 4000) if f.klass == "field"]
    words = Counter(f.value.partition(":")[0] for f in found)
    assert {"0", "1", "max", "sign", "less", "more", "other", "itself", "own inode"} <= set(words)
    share = sum(f.crc == "stale" for f in found) / len(found)
    assert 0.15 < share < 0.35


def test_keys_and_json_give_the_fault_back(image: Unpack) -> None:
    for fault in faults(image("new-defaults"), 1000):
        assert Fault.from_json(json.loads(json.dumps(fault.as_json))) == fault
        again = Fault.of_key(fault.image, fault.key)
        assert (again.key, again.edits, again.crc) == (fault.key, fault.edits, fault.crc)
        assert (again.structure, again.object) == (fault.structure, fault.object)
    with pytest.raises(ValueError, match="no key"):
        Fault.of_key("a.img", "nonsense")


def test_corrupt_makes_the_same_bytes(image: Unpack, tmp_path: Path) -> None:
    """The arguments of each fault, given to the command, make the image the child met."""
    path = image("empty")
    found = faults(path, 400)
    chosen: dict[tuple[str, str, str], Fault] = {}
    for fault in found:
        chosen.setdefault((fault.klass, fault.value.split()[0], fault.crc), fault)
    some = [fault for key, fault in chosen.items() if key[0] != "field" or key[1] in ("max", "0")]
    known = Truth(str(path))
    for number, fault in enumerate(some):
        bad = tmp_path / f"{number}.img"
        done = child("corrupt", path, bad, *fault.edits)
        assert done.code == 0, (fault, done.err)
        overlay, _ = apply(known, fault)
        assert bad.stat().st_size == overlay.size
        assert bad.read_bytes() == overlay.pread(0, overlay.size), fault
        bad.unlink()
    known.close()
    assert len(some) > 10
