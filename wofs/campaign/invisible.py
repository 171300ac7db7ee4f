"""What nothing on disk can tell: values that are valid by themselves and that nothing repeats.

Each row names a field, the answers that it alone determines (`*` for any rest of a name), and
why a wrong value cannot be noticed. A fault is invisible only if no answer changed beyond those
of the rows of the fields that it changed.
"""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase

_OWN = "it is the inode's own property, and nothing repeats it"
_TIME = "any time with less than 10^9 nanoseconds is valid, and nothing repeats it"
_VALUE = "a value is the user's; nothing but the checksum of its block covers it"
_NAME = "names in the inode have no hash beside them"
_CUT = "where a name in the inode ends and its value begins the two lengths alone tell"
_WHICH = "which name leads to which inode is told by the entry alone"
_PLACE = "where in the file an extent begins is told by the extent alone, without an rmapbt"
_BLOCKS = "which of its blocks hold which part of a file its extents alone tell, without an rmapbt"
_WRITTEN = "whether it was written the extent alone tells, without an rmapbt"
_COPIED = "any value is valid, and no copy of the superblock repeats it, where it is the only one"
_FILE = ("data", "holes")
_XATTRS = ("xattrs", "xattr *")
_SIZES = ("image f_files", "image f_ffree", "image f_favail")

Row = tuple[str, str, tuple[str, ...], str]
"""(structure, field, answers that may change, why)."""

ROWS: tuple[Row, ...] = (
    ("inode", "atime", ("st_atime_ns",), _TIME),
    ("inode", "mtime", ("st_mtime_ns",), _TIME),
    ("inode", "ctime", ("st_ctime_ns",), _TIME),
    ("inode", "crtime", ("st_birthtime_ns",), _TIME),
    ("inode", "flags2", ("st_*time_ns",),
     "inodes from before the upgrade to big times lack the flag: each says how its times count"),
    ("inode", "uid", ("st_uid",), _OWN),
    ("inode", "gid", ("st_gid",), _OWN),
    ("inode", "projid_lo", ("st_projid",), _OWN),
    ("inode", "projid_hi", ("st_projid",), _OWN),
    ("inode", "gen", ("st_gen",), "any generation is valid, and nothing repeats it"),
    ("inode", "mode", ("st_mode",), "permissions are the inode's own; its type is repeated"),
    ("inode", "rdev", ("st_rdev",), "any device number is valid, and nothing repeats it"),
    ("inode", "di_size", ("st_size", *_FILE, "target"),
     "blocks may lie beyond the end, and holes before it: only the inode says where it is"),
    ("inode", "link", ("target",), "any text without NUL is a target"),
    ("inode", "aformat", _XATTRS, "an attribute fork in extents form may be empty"),
    ("inode", "sf[N].name", ("*",), _NAME),
    ("inode", "sf[N].ino", ("*",), _WHICH),
    ("inode", "sfattr[N].name", _XATTRS, _NAME),
    ("inode", "sfattr[N].namelen", _XATTRS, _CUT),
    ("inode", "sfattr[N].valuelen", _XATTRS, _CUT),
    ("inode", "sfattr[N].value", _XATTRS, _VALUE),
    ("inode", "sfattr[N].flags", _XATTRS, "any namespace is valid, and nothing repeats it"),
    ("inode", "extent[N].unwritten", _FILE, _WRITTEN),
    ("inode", "extent[N].startoff", _FILE, _PLACE),
    ("inode", "extent[N].startblock", _FILE, _BLOCKS),
    ("bmbt", "rec[N].unwritten", _FILE, _WRITTEN),
    ("bmbt", "rec[N].startoff", _FILE, _PLACE),
    ("bmbt", "rec[N].startblock", _FILE, _BLOCKS),
    ("dirdata", "entry[N].ino", ("*",), _WHICH),
    ("attr", "entry[N].flags", _XATTRS, "the hash of a name does not cover its namespace"),
    ("attr", "name[N].value", _XATTRS, _VALUE),
    ("attr", "name[N].valuelen", _XATTRS, "space is given in units of four bytes"),
    ("value", "content", _XATTRS, _VALUE),
    ("target", "content", ("target",), "any text without NUL is a target"),
    ("data", "content", ("data",), "file data has no checksum in this format"),
    ("sb", "fname", ("image label",), _COPIED),
    ("sb", "features_log_incompat", ("image features",), _COPIED),
    ("sb", "versionnum", ("image features",),
     "where nothing has attributes, only the primary superblock tells that something had"),
    ("sb", "uuid", ("image uuid", "image f_fsid"),
     "with a meta_uuid, the copies and the log alone repeat it, where there are any"),
    ("sb", "features_incompat", ("image features",),
     "whether a feature is on that nothing uses yet, the copies alone repeat"),
    ("sb", "imax_pct", ("image imax_pct", *_SIZES), _COPIED),
    ("sb", "unit", ("image stripe_unit", "image stripe_width"), _COPIED),
    ("sb", "width", ("image stripe_unit", "image stripe_width"), _COPIED),
    ("log", "*", ("image log",), "where a log ends that was cleanly unmounted, it alone tells"),
)  # fmt: skip
"""Every field whose faults may be invisible."""

_UNREPLAYED = "they are exact after a clean unmount only, and the log was not replayed"
_HIDDEN = "names that a damaged directory hides may be the others"
UNSOUND: dict[str, tuple[Row, ...]] = {
    "WX0111": (
        ("sb", "icount", ("image icount", *_SIZES), _UNREPLAYED),
        ("sb", "ifree", ("image ifree", *_SIZES), _UNREPLAYED),
        ("sb", "fdblocks", ("image f_bfree", "image f_bavail", *_SIZES), _UNREPLAYED),
    ),
    "WX0309": (("inode", "nlink", ("st_nlink",), _HIDDEN),),
}
"""More of them, where the image has findings of such codes before any fault."""


def reason_for(
    fields: Collection[tuple[str, str]],
    attributes: Collection[str],
    codes: Collection[str] = (),
) -> str:
    """Return why a change of these answers cannot be noticed, "" where it could be.

    `fields` are the (structure, field) that were changed, `attributes` the answers that differ,
    `codes` those of what the check finds without the fault.
    """
    known = [*ROWS, *(row for code, more in UNSOUND.items() if code in codes for row in more)]
    rows = [r for r in known if any(r[0] == kind and r[1] in (name, "*") for kind, name in fields)]
    allowed = [pattern for row in rows for pattern in row[2]]
    if not all(any(fnmatchcase(name, p) for p in allowed) for name in attributes):
        return ""
    return "; ".join(dict.fromkeys(f"{row[0]}.{row[1]}: {row[3]}" for row in rows))
