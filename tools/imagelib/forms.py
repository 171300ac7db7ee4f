"""Fill a mounted XFS so that every directory and attribute form appears."""

from __future__ import annotations

import os
import struct

from imagelib.populate import (
    KEEP_SIZE,
    PUNCH,
    Site,
    colliding,
    fallocate,
    hard_links,
    opened,
    pattern,
    put,
    wide,
)

LARGEST_DIRECTORY = 3000
"""Entries above which a form is left to images with smaller directory blocks."""


def directories(site: Site) -> None:
    """Shortform, block, leaf, leafn, node; blocks freed in the middle; a deep nesting."""
    dbs = site.geo.dir_block
    site.folder("dirs")
    site.folder("dirs/empty")
    for name, count in {"sf": 3, "sf_full": site.geo.fork // 20 - 1}.items():
        folder = site.folder("dirs", name)
        for entry in wide("f", count, 8):
            put(os.path.join(folder, entry))
    per_block = (dbs - 64) // 32  # entries of a name of 16 bytes
    counts = {
        "block": min(per_block // 2, 60),
        "leaf": 2 * per_block + 10,
        "leafn": (dbs - 64) // 8 - 4,  # the leaf is full, its tail of free counts moves out
        "node": (dbs - 80) // 8 + 40,
    }
    for name, count in counts.items():
        if count <= LARGEST_DIRECTORY:
            hard_links(site.folder("dirs", name), wide("n", count, 12))
    _directory_with_holes(site)
    path = site.path("dirs/deep")
    for level in range(24):
        os.mkdir(path)
        path = os.path.join(path, b"%02d" % level)
    put(path, b"bottom\n")


def _directory_with_holes(site: Site) -> None:
    """Remove most entries again: data blocks disappear from the middle and from the end."""
    per_block = max(3, site.geo.dir_block // 272)
    count = min(per_block * 14, LARGEST_DIRECTORY)
    entries = wide("k", count, 250)
    for name in ("holes", "holes_end"):
        hard_links(site.folder("dirs", name), entries)
    for i, entry in enumerate(entries):
        if per_block <= i <= count - per_block - 2 and i % (3 * per_block):
            os.unlink(site.path("dirs/holes", entry))
        if i > per_block // 2:
            os.unlink(site.path("dirs/holes_end", entry))


def btree_directories(site: Site) -> None:
    """Directories whose blocks lie apart, until their extents need a btree.

    They grow into holes punched in a file beside them. The second loses nearly all entries again:
    a btree fork with a small directory in it.
    """
    dbs = site.geo.dir_block
    per_block = max(3, (dbs - 64) // 272)
    blocks = site.geo.fork_extents + 12
    entries = wide("b", per_block * blocks, 252)
    if len(entries) > LARGEST_DIRECTORY:
        return
    for name in ("btree", "btree_emptied"):
        folder = site.folder("dirs_" + name)
        hard_links(folder, entries[: per_block * 2])
        with opened(os.path.join(folder, b"pad")) as fd:
            fallocate(fd, 0, 0, 2 * (blocks + 8) * dbs)
            for i in range(blocks + 8):
                fallocate(fd, PUNCH | KEEP_SIZE, 2 * i * dbs, dbs)
            os.fsync(fd)
            os.sync()
            for entry in entries[per_block * 2 :]:
                os.link(os.path.join(folder, b"0"), os.path.join(folder, entry))
    for entry in entries[per_block:]:
        os.unlink(site.path("dirs_btree_emptied", entry))


def attributes(site: Site) -> None:
    """Shortform, leaf, node, remote values, odd names, ACLs, on every file type."""
    bs = site.geo.block
    site.folder("attrs")

    def fill(name: str, values: dict[bytes, bytes]) -> bytes:
        path = site.path("attrs", name)
        put(path, name.encode())
        for key, value in values.items():
            os.setxattr(path, key, value)
        return path

    shortform = {b"user.a": b"1", b"user.empty": b"", b"trusted.t": b"\0\1\xff"}
    fill("sf", {**shortform, b"security.wofs": b"bar"})
    fill("leaf", {b"user.leaf%03d" % i: b"value %d" % i for i in range(22)})
    sizes = (0, 1, 3, 250, 255, 256, bs // 4, bs - 1, bs, bs + 1, 3 * bs)
    fill("mixed", {b"user.len%d" % n: pattern(f"x{n}", n) for n in sizes if n <= 65536})
    fill("remote_max", {b"user.max": pattern("max", 65536)})
    node = min(3 * bs // 24, 1200)
    path = fill("node", {b"user.node%05d" % i: b"v%d" % i for i in range(node)})
    for i in range(0, node, 7):
        os.removexattr(path, b"user.node%05d" % i)
    fill("long_names", {b"user." + b"%d" % i * 250: b"n%d" % i for i in range(6)})
    fill("bytes", {b"user.\xff\xfe\n": b"\0"})
    fill("same_name", {space + b".x": space for space in (b"user", b"trusted", b"security")})
    fill("hash", {b"user." + name: name for name in colliding(3)})
    path = fill("removed", {b"user.gone": b"x" * 100})
    os.removexattr(path, b"user.gone")
    path = fill("both_forks", {})
    with opened(path) as fd:
        for i in range(site.geo.fork_extents + 8):
            os.pwrite(fd, b"d", 2 * i * bs)
    os.setxattr(path, b"user.b", b"both")
    _access_lists(site)
    os.mkfifo(site.path("attrs/fifo"))
    os.setxattr(site.path("attrs/fifo"), b"trusted.f", b"fifo")


_OWNER, _USER, _GROUP, _NAMED_GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32  # tags of an ACL
_NOBODY = 0xFFFFFFFF


def _access_lists(site: Site) -> None:
    """POSIX ACLs: small, large, and the default one that children inherit."""
    folder = site.folder("attrs/dir")
    os.setxattr(folder, b"user.d", b"dir")
    base = [(_OWNER, 7, _NOBODY), (_GROUP, 5, _NOBODY), (_MASK, 7, _NOBODY), (_OTHER, 0, _NOBODY)]
    os.setxattr(folder, b"system.posix_acl_default", acl([*base, (_USER, 5, 1000)]))
    put(os.path.join(folder, b"child"), b"inherits")
    os.mkdir(os.path.join(folder, b"sub"))
    lists = {"acl": [(_USER, 4, 1), (_USER, 7, 77777), (_NAMED_GROUP, 6, 5)]}
    lists["acl_many"] = [(_USER, i % 8, 3000 + i) for i in range(40)]
    for name, more in lists.items():
        put(site.path("attrs", name))
        os.setxattr(site.path("attrs", name), b"system.posix_acl_access", acl([*base, *more]))


def acl(entries: list[tuple[int, int, int]]) -> bytes:
    """Return the xattr form of an ACL from (tag, permissions, id): version 2, sorted."""
    body = b"".join(struct.pack("<HHI", *entry) for entry in sorted(entries))
    return struct.pack("<I", 2) + body


def btree_attributes(site: Site) -> None:
    """An attribute fork with more extents than fit the inode: remote values, half removed."""
    path = site.path("attr_btree")
    put(path, b"attributes in a btree")
    size = min(2 * site.geo.block, 65536)
    count = 2 * site.geo.fork_extents + 12
    if count * size > 2 << 20:
        return
    for i in range(count):
        os.setxattr(path, b"user.big%03d" % i, pattern(f"b{i}", size - i))
        os.setxattr(path, b"user.pad%03d" % i, b"p" * 200)
    for i in range(0, count, 2):
        os.removexattr(path, b"user.big%03d" % i)
