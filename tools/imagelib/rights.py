"""What a user without rights may do with a file, by what a manifest says of it.

Access control lists are not evaluated: of files with one, either answer is taken.
"""

from __future__ import annotations

from imagelib.manifest import Entry

_READ, _SEARCH = 4, 1
_ACL = "system.posix_acl_access"


def _may(uid: int, entry: Entry, wanted: int) -> bool:
    """Whether the mode gives `wanted` to a user whose only group has his own number."""
    shift = 6 if entry["u"] == uid else 3 if entry["g"] == uid else 0
    return bool(int(str(entry["m"]), 8) >> shift & wanted)


def _xattrs(entry: Entry) -> dict[str, str]:
    xattrs = entry.get("x", {})
    assert isinstance(xattrs, dict)
    return xattrs


def barred(uid: int, entry: Entry, above: Entry | None) -> set[str]:
    """Return the parts of a file ("lstat", "data", "readdir", "xattr") that are closed to `uid`.

    `above` is the directory it is in.
    """
    if above is not None and not _may(uid, above, _SEARCH):
        return {"lstat"}
    if _may(uid, entry, _READ):
        return set()
    parts = {"d": {"readdir"}, "f": {"data"}}.get(str(entry["t"]), set())
    return parts | {"xattr" for name in _xattrs(entry) if name.startswith("user.")}


def doubtful(entry: Entry, above: Entry | None) -> bool:
    """Whether an access control list may decide otherwise than the modes."""
    return any(_ACL in _xattrs(each) for each in (entry, above or {}))


def forget_trusted(entry: Entry) -> None:
    """Take the attributes that only root sees from an entry."""
    xattrs = _xattrs(entry)
    kept = {name: value for name, value in xattrs.items() if not name.startswith("trusted.")}
    if kept:
        entry["x"] = kept
    else:
        entry.pop("x", None)
