"""Mount options as mount(8) takes them: `-o ro,allow_other,sb=1`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from wofs.errors import WofsError
from wofs.slab import BACKENDS
from wofs.xfs.options import FSNAME_BYTES, PROTECT, MountOptions, memory_of, mount_options

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

NUMBERS = {"sb": "sb_agno", "uid": "uid", "gid": "gid", "scrub": "scrub_s"}
_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)
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


class _Text(str):
    """A word for libfuse; pyfuse3 encodes words as ASCII, which is not what paths are."""

    __slots__ = ()

    def encode(self, encoding: str = "", errors: str = "") -> bytes:
        """Return the bytes as the system wrote them, whatever encoding is asked for."""
        return os.fsencode(str(self))


@dataclass
class Options:
    """The options of one mount: what the image's mount, the kernel and the user are told."""

    mount: MountOptions
    logdev: str = ""
    slab: str = "auto"
    report: str = ""
    warnings: list[str] = field(default_factory=list)

    def take(self) -> MountOptions:
        """Hand the record over to be mounted with, and keep nothing: its copy is the slab's."""
        taken = self.mount
        del self.mount
        return taken

    @property
    def source(self) -> str:
        """What the mount table shows as the source."""
        return os.fsdecode(self.mount.fsname.rstrip(b"\0"))

    def for_kernel(self) -> set[str]:
        """Return the options for the kernel, in libfuse's words.

        `ro` always, so that the kernel itself refuses every write; `default_permissions`
        always, so that it checks modes and ACLs.
        """
        m = self.mount
        name = self.source.replace("\\", "\\\\").replace(",", "\\,")
        words: set[str] = {"ro", "default_permissions", "subtype=wofs", _Text(f"fsname={name}")}
        words.add("nosuid" if m.nosuid else "suid")
        words.add("nodev" if m.nodev else "dev")
        if m.noexec:
            words.add("noexec")
        if m.allow_other:
            words.add("allow_other")
        return words


def words(texts: Iterable[str]) -> Iterator[str]:
    """Yield the words of comma-separated lists; "\\," is a comma in a word, "\\\\" a backslash."""
    for text in texts:
        for word in re.findall(r"(?:\\[\\,]|[^,])+", text):
            yield re.sub(r"\\([\\,])", r"\1", word)


def parse(texts: Iterable[str], source: str, privileged: bool, sloppy: bool = False) -> Options:
    """Return the options in `texts`, each a comma-separated list; the last word counts.

    `source` is shown in the mount table unless fsname= says otherwise. Unknown words are
    passed over if `sloppy`. Raises BadOption.
    """
    switches = {"nosuid": True, "nodev": True}
    numbers: dict[str, int] = {}
    texts_of = {"fsname": source, "logdev": "", "slab": "", "report": "", "protect": ""}
    required: set[str] = set()
    warnings = []
    for word in words(texts):
        name, equals, value = word.partition("=")
        if word in FLAGS:
            switches[FLAGS[word]] = True
        elif word in OPPOSITES:
            if word in ("suid", "dev") and not privileged:
                raise BadOption(f"option {word}: only root may give it")
            switches[OPPOSITES[word]] = False
        elif name in NUMBERS and equals:
            numbers[NUMBERS[name]] = _number(name, value)
        elif name == "require" and equals:
            required.add(_backend(name, value))
        elif name == "slab" and equals:
            texts_of["slab"] = _backend(name, value)
        elif name == "protect" and equals:
            texts_of["protect"] = _protection(value)
        elif name in texts_of and equals:
            texts_of[name] = _text(name, value)
        elif word == "rw":
            warnings.append("an image is never written: mounted read-only")
        elif word not in IGNORED and not word.startswith(IGNORED_PREFIXES) and not sloppy:
            raise BadOption(_unknown(word, name))
    try:
        slab, protect = memory_of(_agreed(texts_of["slab"], required), texts_of["protect"])
    except ValueError as error:
        raise BadOption(f"options {error}") from error
    record = mount_options(
        norecovery=switches.get("norecovery", False),
        sb_agno=numbers.get("sb_agno", 0),
        scrub_s=numbers.get("scrub_s", 0),
        uid=numbers.get("uid", -1),
        gid=numbers.get("gid", -1),
        allow_other=switches.get("allow_other", False),
        nosuid=switches["nosuid"],
        nodev=switches["nodev"],
        noexec=switches.get("noexec", False),
        protect=protect,
        fsname=os.fsencode(texts_of["fsname"]),
    )
    return Options(record, texts_of["logdev"], slab, texts_of["report"], warnings)


def _unknown(word: str, name: str) -> str:
    """Return what to say of a word that means nothing here."""
    if word in (*NUMBERS, "fsname", "logdev", "slab", "require", "report", "protect"):
        return f"option {word} needs a value: {word}=..."
    if name in FLAGS or name in OPPOSITES or name in IGNORED:
        return f"option {name} takes no value"
    return f"unknown option {word!r} (wofs mount --help lists them)"


def _text(name: str, value: str) -> str:
    most = FSNAME_BYTES - 1 if name == "fsname" else 1 << 12
    if not value or len(os.fsencode(value)) > most:
        raise BadOption(f"option {name}= needs a name of 1 to {most} bytes")
    return value


def _backend(name: str, value: str) -> str:
    """Return the backend asked for; one that is named is never replaced by a weaker one."""
    known = BACKENDS if name == "require" else ("auto", *BACKENDS)
    if value not in known:
        raise BadOption(f"option {name}= knows {', '.join(known)}, not {value!r}")
    return value


def _agreed(asked: str, required: set[str]) -> str:
    """Return the one backend that is asked for: what is required is not put aside by a wish."""
    if not required:
        return asked
    all_of_them = required | ({asked} - {"", "auto"})
    if len(all_of_them) > 1:
        memories = ", ".join(sorted(all_of_them))
        raise BadOption(f"options require= and slab= contradict each other: {memories}")
    return all_of_them.pop()


def _protection(value: str) -> str:
    """Return what is to be protected."""
    if value not in PROTECT:
        raise BadOption(f"option protect= knows {', '.join(PROTECT)}, not {value!r}")
    return value


def _number(name: str, value: str) -> int:
    if not (_NUMBER.fullmatch(value) and int(value) < _NUMBER_LIMIT - 1):
        raise BadOption(f"option {name}= needs a number below 2^32 - 1, not {value!r}")
    return int(value)
