"""`wofs mount` and `umount` as commands: options, exit statuses, one line for each failure."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imagelib import unprivileged
from support import fuse
from wofs.fuse.options import BadOption, parse, words
from wofs.xfs.options import PROTECT

Unpack = Callable[[str], Path]

needs_fuse = pytest.mark.skipif(fuse.lacking() is not None, reason=str(fuse.lacking()))

HELPER = [sys.executable, "-c", "from wofs.cli.mounthelper import main; main()"]


# ---- options, parsed
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (",,a,,b,", ["a", "b"]),
        ("fsname=a b,ro", ["fsname=a b", "ro"]),
        (r"fsname=a\,b,ro", ["fsname=a,b", "ro"]),
        (r"fsname=a\\,ro", ["fsname=a\\", "ro"]),
        (r"fsname=C:\dir,ro", ["fsname=C:\\dir", "ro"]),
        ("fsname=é\udcff", ["fsname=é\udcff"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert list(words([text])) == expected


def kernel_words(*texts: str, privileged: bool = True) -> set[bytes]:
    """Return what libfuse is told, as the bytes that pyfuse3 makes of it."""
    return {w.encode("us-ascii") for w in parse(texts, "/disk.img", privileged).for_kernel()}


ALWAYS = {b"ro", b"default_permissions", b"subtype=wofs"}
SAFE = {*ALWAYS, b"nosuid", b"nodev"}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((), {*SAFE, b"fsname=/disk.img"}),
        (("suid,dev",), {*ALWAYS, b"suid", b"dev", b"fsname=/disk.img"}),
        (("suid,dev", "nosuid", "nodev"), {*SAFE, b"fsname=/disk.img"}),
        (("noexec,allow_other",), {*SAFE, b"noexec", b"allow_other", b"fsname=/disk.img"}),
        (("noexec,exec,fsname=x",), {*SAFE, b"fsname=x"}),
        (("fsname=x,fsname=a b",), {*SAFE, b"fsname=a b"}),
        ((r"fsname=a\,b\\c",), {*SAFE, rb"fsname=a\,b\\c"}),
        (("fsname=é\udcff#\n",), {*SAFE, b"fsname=\xc3\xa9\xff#\n"}),
        (("ro,defaults,auto,_netdev,nofail,user,x-systemd.automount,X-mount.mkdir,comment=c",
          "noatime,default_permissions"), {*SAFE, b"fsname=/disk.img"}),
    ],
)  # fmt: skip
def test_words_for_the_kernel(texts: tuple[str, ...], expected: set[bytes]) -> None:
    assert kernel_words(*texts) == expected


def test_what_the_image_is_mounted_with() -> None:
    record = parse(["sb=3,uid=1,gid=0,norecovery,logdev=l"], "s", False).take()
    assert (record.sb_agno, record.uid, record.gid, record.norecovery) == (3, 1, 0, 1)
    record = parse(["norecovery,recovery"], "s", False).take()
    assert (record.sb_agno, record.uid, record.gid, record.norecovery) == (0, -1, -1, 0)
    assert parse(["logdev=/l"], "s", False).logdev == "/l"
    assert parse(["rw"], "s", False).warnings
    assert not parse(["ro"], "s", False).warnings


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("frobnicate", "unknown option 'frobnicate'"),
        ("allow_root", "unknown option 'allow_root'"),
        ("max_read=4096", "unknown option 'max_read=4096'"),
        ("=x", "unknown option '=x'"),
        ("sb", "option sb needs a value"),
        ("sb=", "option sb= needs a number"),
        ("sb=x", "option sb= needs a number"),
        ("sb=-1", "option sb= needs a number"),
        ("sb=+1", "option sb= needs a number"),
        ("sb=1.0", "option sb= needs a number"),
        ("sb=0x1", "option sb= needs a number"),
        ("sb=\u0663", "option sb= needs a number"),
        ("sb=4294967295", "option sb= needs a number"),
        ("uid=4294967295", "option uid= needs a number"),
        ("gid=root", "option gid= needs a number"),
        ("fsname=", "option fsname= needs a name"),
        ("fsname", "option fsname needs a value"),
        ("fsname=" + "x" * 256, "option fsname= needs a name of 1 to 255 bytes"),
        ("logdev=", "option logdev= needs a name"),
        ("noexec=1", "option noexec takes no value"),
        ("ro=yes", "option ro takes no value"),
        ("suid", "option suid: only root may give it"),
        ("dev", "option dev: only root may give it"),
    ],
)
def test_bad_options(word: str, told: str) -> None:
    with pytest.raises(BadOption) as caught:
        parse([f"ro,{word}"], "source", privileged=False)
    assert str(caught.value).startswith(told)


def test_sloppy_passes_over_unknown_words_only() -> None:
    assert parse(["frobnicate,uid=5"], "s", False, sloppy=True).mount.uid == 5
    with pytest.raises(BadOption):
        parse(["uid=x"], "s", False, sloppy=True)


@pytest.mark.parametrize(
    ("words", "slab", "protect"),
    [
        ("", "auto", "mount"),
        ("protect=none", "none", "none"),
        ("slab=none", "none", "none"),
        ("slab=none,protect=none", "none", "none"),
        ("protect=all", "auto", "all"),
        ("protect=all,require=memfd", "memfd", "all"),
        ("slab=shared", "shared", "mount"),
        ("slab=shared,require=shared", "shared", "mount"),
        ("require=shared,slab=auto", "shared", "mount"),
        ("slab=memfd,slab=shared", "shared", "mount"),
    ],
)
def test_what_is_protected_goes_with_the_memory(words: str, slab: str, protect: str) -> None:
    options = parse([words], "s", False)
    assert (options.slab, PROTECT[options.mount.protect]) == (slab, protect)


@pytest.mark.parametrize(
    "words", ["protect=none,slab=memfd", "slab=none,protect=mount", "require=none,protect=all"]
)
def test_what_contradicts_itself_is_refused(words: str) -> None:
    with pytest.raises(BadOption, match="contradict each other: protect=none is slab=none"):
        parse([words], "s", False)


@pytest.mark.parametrize(
    "words", ["require=memfd,slab=none", "slab=memfd,require=shared", "require=memfd,require=alias"]
)
def test_what_is_required_is_not_put_aside(words: str) -> None:
    with pytest.raises(BadOption, match="require= and slab= contradict each other"):
        parse(words.split(",", 1), "s", False)


# ---- failures: a status and one line
def failures(tmp_path: Path) -> dict[str, tuple[list[str], int, str]]:
    """Return arguments, exit status and the start of the line, by what is wrong."""
    good, place = str(tmp_path / "empty.img"), str(tmp_path / "m")
    return {
        "no arguments": ([], 1, "Missing argument"),
        "no directory": ([good], 1, "Missing argument"),
        "too many": ([good, place, place], 1, "Got unexpected extra argument"),
        "unknown flag": (["--frobnicate", good, place], 1, "No such option"),
        "no word after -o": ([good, place, "-o"], 1, "Option '-o' requires an argument"),
        "unknown option": ([good, place, "-o", "frobnicate"], 1, "unknown option"),
        "bad number": ([good, place, "-o", "sb=x"], 1, "option sb= needs a number"),
        "log": ([good, place, "--log", "/nowhere/l"], 1, "/nowhere/l: No such file"),
        "report": ([good, place, "--report", "/nowhere/r"], 1, "/nowhere/r: No such file"),
        "protect": ([good, place, "-o", "protect=much"], 1, "option protect= knows none, mount,"),
        "slab": ([good, place, "-o", "slab=clay"], 1, "option slab="),
        "no image": ([str(tmp_path / "none"), place], 32, f"{tmp_path}/none: no such file"),
        "empty image": (["", place], 32, "no image"),
        "a folder": ([str(tmp_path), place], 32, f"{tmp_path}: is a directory"),
        "a device": (["/dev/null", place], 32, "/dev/null: is neither a file nor"),
        "not XFS": ([__file__, place], 32, "test_mount.py: superblock"),
        "dirty": ([str(tmp_path / "dirty.img"), place], 32, "dirty.img: log: is dirty"),
        "V4": ([str(tmp_path / "v4.img"), place], 32, "v4.img: superblock"),
        "no such AG": ([good, place, "-o", "sb=99"], 32, "empty.img: superblock 99"),
        "no log there": ([good, place, "-o", "logdev=none"], 32, "none: no such file"),
        "no place": ([good, str(tmp_path / "none")], 32, f"{tmp_path}/none: the mount point does"),
        "empty place": ([good, ""], 32, "no mount point"),
        "a file": ([good, good], 32, f"{good}: the mount point is not a directory"),
    }


ALSO_IN_THE_FOREGROUND = ("unknown option", "slab", "not XFS", "no image")


@needs_fuse
@pytest.mark.parametrize(
    ("what", "foreground"),
    [(what, False) for what in failures(Path())] + [(w, True) for w in ALSO_IN_THE_FOREGROUND],
)
def test_failures(what: str, foreground: bool, image: Unpack, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    for name in ("empty", "dirty", "v4"):
        (tmp_path / f"{name}.img").symlink_to(image(name))
    arguments, status, line = failures(tmp_path)[what]
    done = fuse.run("mount", *(["-f"] if foreground else []), *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(f"wofs: {line}")
    assert done.stderr.count("\n") == 1
    assert not fuse.table(tmp_path / "m")


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        ([], 1, "Missing argument"),
        (["--frobnicate", "m"], 1, "No such option"),
        (["m"], 32, "m: is not mounted"),
        (["none"], 32, "none: is not mounted"),
        ([""], 32, "no mount point"),
        (["/proc"], 32, "/proc: holds a proc mount, not one of wofs"),
    ],
)
def test_umount_failures(arguments: list[str], status: int, line: str, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    done = fuse.run("umount", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(f"wofs: {line}")
    assert done.stderr.count("\n") == 1


# ---- options, mounted
@needs_fuse
def test_what_the_mount_table_shows(image: Unpack, tmp_path: Path) -> None:
    path, place = image("default"), tmp_path / "m"
    with fuse.background(path, place):
        (line,) = fuse.table(place)
        source, kind, options = line.split(" ")
        assert (source, kind) == (str(path), "fuse.wofs")
        assert {"ro", "nosuid", "nodev", "default_permissions"} <= set(options.split(","))
        assert "noexec" not in options
        assert "allow_other" not in options
        done = fuse.run("mount", path, place)
        assert done.returncode == 32
        assert done.stderr == f"wofs: {place}: {path} is mounted there already\n"
    name = r"é a\,b\\c#" + "\udcff"
    with fuse.background(path, place, "-o", f"noexec,fsname={name},uid=7,gid=8"):
        (line,) = fuse.table(place)
        assert line.startswith("é\\040a,b\\134c\\043\udcff fuse.wofs ")
        assert "noexec" in line
        for inner in ("", "files/one", "special/ids_max"):
            st = (place / inner).stat()
            assert (st.st_uid, st.st_gid) == (7, 8)


@needs_fuse
@pytest.mark.skipif(not fuse.is_root(), reason="needs root to give suid and dev")
def test_root_may_allow_device_nodes(image: Unpack, tmp_path: Path) -> None:
    with fuse.background(image("default"), tmp_path / "m", "-o", "suid,dev"):
        assert not {"nosuid", "nodev"} & set(fuse.table(tmp_path / "m")[0].split(" ")[2].split(","))
        assert (tmp_path / "m/special/null").read_bytes() == b""


@needs_fuse
def test_warnings_are_told_and_do_not_fail(image: Unpack, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    told = {
        ("empty", "rw"): "wofs: warning: an image is never written: mounted read-only\n",
        ("dirty", "norecovery"): "wofs: dirty.img: log: is dirty and was not replayed: ",
        ("external-log", "ro"): "wofs: external-log.img: log: is external and was not given",
    }
    for (name, option), line in told.items():
        done = fuse.run("mount", "-o", option, image(name), tmp_path / "m")
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr.startswith(line)
        assert done.stderr.count("\n") == 1
        assert os.listdir(tmp_path / "m") or name == "empty"
        assert fuse.run("umount", tmp_path / "m").returncode == 0


@needs_fuse
def test_a_secondary_superblock(image: Unpack, tmp_path: Path) -> None:
    path = tmp_path / "headless.img"
    path.write_bytes(image("empty").read_bytes())
    with path.open("r+b") as file:
        file.write(bytes(512))
    (tmp_path / "m").mkdir()
    done = fuse.run("mount", path, tmp_path / "m")
    assert done.returncode == 32
    assert "sb=" in done.stderr
    with fuse.background(path, tmp_path / "m", "-o", "sb=1"):
        assert not os.listdir(tmp_path / "m")


# ---- where the log goes
@needs_fuse
def test_log_and_report_go_to_the_state_folder(image: Unpack, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    state = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    if os.path.exists("/dev/log"):
        pytest.skip("this machine has syslog, which is preferred")
    assert fuse.run("mount", image("empty"), tmp_path / "m", env=state).returncode == 0
    assert fuse.run("umount", tmp_path / "m", env=state).returncode == 0
    folder = tmp_path / "state/wofs"
    assert {path.name for path in folder.iterdir()} == {"wofs.log", "crash-report.txt", "crashes"}
    assert not list((folder / "crashes").iterdir())
    assert "INFO mounted empty.img on " in (folder / "wofs.log").read_text()


@needs_fuse
def test_without_a_home_it_mounts_and_says_what_is_lost(image: Unpack, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    homeless = {k: v for k, v in os.environ.items() if k != "XDG_STATE_HOME"}
    homeless["HOME"] = str(tmp_path / "nowhere")
    if os.path.exists("/dev/log"):
        pytest.skip("this machine has syslog: nothing is lost")
    done = fuse.run("mount", image("empty"), tmp_path / "m", env=homeless)
    assert done.returncode == 0
    assert done.stderr.startswith("wofs: warning: nothing will be logged: ")
    assert done.stderr.count("\n") == 1
    assert fuse.run("umount", tmp_path / "m").returncode == 0
    assert not (tmp_path / "nowhere").exists()


SYSLOG = """
import os, socket, subprocess, sys
wofs, image, place = eval(sys.argv[1]), sys.argv[2], sys.argv[3]
subprocess.run(["mount", "-t", "tmpfs", "none", "/dev"], check=True)
os.mknod("/dev/fuse", 0o20666, os.makedev(10, 229))
os.mknod("/dev/null", 0o20666, os.makedev(1, 3))
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
    log.bind("/dev/log")
    log.settimeout(20)
    done = subprocess.run([*wofs, "mount", image, place], capture_output=True, text=True)
    print(done.returncode, done.stderr)
    print(log.recv(4096))
    subprocess.run([*wofs, "umount", place], check=True)
    print(log.recv(4096))
"""


@needs_fuse
@pytest.mark.skipif(
    unprivileged.lacking() is not None, reason=f"a /dev of its own: {unprivileged.lacking()}"
)
def test_log_goes_to_syslog_where_there_is_one(image: Unpack, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    words = [sys.executable, "-c", SYSLOG, repr(fuse.WOFS), str(image("empty"))]
    done = subprocess.run(
        unprivileged.command([*words, str(tmp_path / "m")], uid=0),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    status, mounted, unmounted = done.stdout.splitlines()
    assert status.strip() == "0"
    assert mounted.startswith("b'<30>wofs[")
    assert ": mounted empty.img on " in mounted
    assert ": unmounted empty.img" in unmounted


# ---- mount(8)
@needs_fuse
@pytest.mark.skipif(not fuse.is_root(), reason="needs root, as mount(8) runs its helpers")
def test_the_helper_takes_what_mount_hands_it(image: Unpack, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    source, place = str(image("default")), str(tmp_path / "m")

    def helper(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*HELPER, *words], capture_output=True, text=True, check=False, timeout=30
        )

    done = helper(source, place, "-f", "-o", "rw,noexec")
    assert (done.returncode, fuse.table(tmp_path / "m")) == (0, [])
    done = helper(source, place, "-n", "-v", "-o", "ro,noexec,uid=5", "-t", "fuse.wofs")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "noexec" in fuse.table(tmp_path / "m")[0]
    assert (tmp_path / "m/files").stat().st_uid == 5
    assert fuse.run("umount", tmp_path / "m").returncode == 0
    assert helper(source, place, "-o", "frobnicate").returncode == 1
    assert helper(source, place, "-s", "-o", "frobnicate").returncode == 0
    assert fuse.run("umount", tmp_path / "m").returncode == 0
    assert helper(source, f"{place}/none").returncode == 32
    done = helper(source, place, "-Q")
    assert done.returncode == 1
    assert done.stderr.startswith("wofs: option -Q not recognized")
    assert helper(source).returncode == 1


BY_MOUNT = """
set -e
mount -t overlay -o lowerdir={folder}/sbin:/usr/sbin overlay /usr/sbin || exit 77
mount -T {folder}/fstab {folder}/m
grep {folder}/m /proc/mounts
stat -c 'owner %u' {folder}/m/files
umount {folder}/m
mount -t wofs -o sb=x {image} {folder}/m || echo "status $?"
"""


@needs_fuse
@pytest.mark.skipif(
    unprivileged.lacking() is not None, reason=f"a /sbin of its own: {unprivileged.lacking()}"
)
def test_by_mount_and_fstab(image: Unpack, tmp_path: Path) -> None:
    for name in ("m", "sbin"):
        (tmp_path / name).mkdir()
    helper = tmp_path / "sbin/mount.wofs"
    helper.write_text(f"#!{sys.executable}\nfrom wofs.cli.mounthelper import main\nmain()\n")
    helper.chmod(0o755)
    path = image("default")
    (tmp_path / "fstab").write_text(f"{path} {tmp_path}/m wofs noexec,nofail,uid=5 0 0\n")
    script = BY_MOUNT.format(folder=tmp_path, image=path)
    done = subprocess.run(
        unprivileged.command(["sh", "-c", script], uid=0),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode == 77:
        pytest.skip(f"no overlay over /usr/sbin: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    line, owner, status = done.stdout.splitlines()
    assert line.startswith(f"{path} {tmp_path}/m fuse.wofs ro,nosuid,nodev,noexec,")
    assert (owner, status) == ("owner 5", "status 1")
    assert "option sb= needs a number" in done.stderr
