"""Mount options as mount(8) takes them: `-o ro,allow_other,sb=1`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from wofs.errors import WofsError
from wofs.xfs.options import MountOptions, mount_options

FSTYPE = "fuse.wofs"

FLAGS = {
    "allow_other": "allow_other",
    "norecovery": "norecovery",
    "nosuid": "nosuid",
    "nodev": "nodev",
    "noexec": "noexec",
}
"""Options that switch a field of `MountOptions` on."""

OPPOSITES = {"suid": "nosuid", "dev": "nodev", "exec": "noexec", "recovery": "norecovery"}
"""Options that switch a field off."""

NUMBERS = {"sb": "sb_agno", "uid": "uid", "gid": "gid"}
_NUMBER_LIMIT = 1 << 32

IGNORED = frozenset(
    {
        *("ro", "defaults", "default_permissions", "auto", "noauto", "nofail", "_netdev", "loop"),
        *("user", "nouser", "users", "owner", "group", "async", "sync", "silent", "quiet"),
        *("atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime"),
        *("strictatime", "nostrictatime", "lazytime", "nolazytime"),
        *("nouuid", "noquota", "inode64"),
    }
)
"""Options of mount(8), fstab and the kernel's XFS that say what is so anyway, or nothing here."""

IGNORED_PREFIXES = ("x-", "X-", "comment=", "uhelper=", "helper=")


class BadOption(WofsError):
    """An option is unknown or its value is wrong."""


@dataclass
class Options:
    """The options of one mount: what the image's mount, the kernel and the user are told."""

    mount: MountOptions
    warnings: list[str] = field(default_factory=list)

    def for_kernel(self) -> set[str]:
        """Return the options for the kernel, in libfuse's words.

        `ro` always, so that the kernel itself refuses every write; `default_permissions`
        always, so that it checks modes and ACLs.
        """
        m = self.mount
        name = m.fsname.rstrip(b"\0").decode("ascii", "replace").replace("\ufffd", "?")
        name = name.replace("\\", "\\\\").replace(",", "\\,")
        words = {"ro", "default_permissions", "subtype=wofs", f"fsname={name}"}
        words.add("nosuid" if m.nosuid else "suid")
        words.add("nodev" if m.nodev else "dev")
        if m.noexec:
            words.add("noexec")
        if m.allow_other:
            words.add("allow_other")
        return words


def parse(texts: Iterable[str], source: str, privileged: bool) -> Options:
    """Return the options in `texts`, each a comma-separated list; the last word counts.

    `source` is shown in the mount table unless fsname= says otherwise. Raises BadOption.
    """
    switches = {"nosuid": True, "nodev": True}
    numbers: dict[str, int] = {}
    fsname, warnings = source, []
    for word in (w for text in texts for w in text.split(",") if w):
        name, _, value = word.partition("=")
        if word in FLAGS:
            switches[FLAGS[word]] = True
        elif word in OPPOSITES:
            if word in ("suid", "dev") and not privileged:
                raise BadOption(f"option {word}: only root may give it")
            switches[OPPOSITES[word]] = False
        elif name in NUMBERS:
            numbers[NUMBERS[name]] = _number(name, value)
        elif name == "fsname" and value:
            fsname = value
        elif word == "rw":
            warnings.append("an image is never written: mounted read-only")
        elif word not in IGNORED and not word.startswith(IGNORED_PREFIXES):
            raise BadOption(f"unknown option {word!r} (wofs mount --help lists them)")
    record = mount_options(
        norecovery=switches.get("norecovery", False),
        sb_agno=numbers.get("sb_agno", 0),
        uid=numbers.get("uid", -1),
        gid=numbers.get("gid", -1),
        allow_other=switches.get("allow_other", False),
        nosuid=switches["nosuid"],
        nodev=switches["nodev"],
        noexec=switches.get("noexec", False),
        fsname=os.fsencode(fsname),
    )
    return Options(record, warnings)


def _number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdecimal() and int(value) < _NUMBER_LIMIT - 1):
        raise BadOption(f"option {name}= needs a number below 2^32 - 1, not {value!r}")
    return int(value)
