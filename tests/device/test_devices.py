"""Files, block devices and bytes as sources: exact reads, short ones only at the end."""

from pathlib import Path

import pytest

from wofs.device import BytesDevice, Device, FileDevice


def devices(tmp_path: Path, data: bytes) -> list[Device]:
    path = tmp_path / "disk.img"
    path.write_bytes(data)
    return [FileDevice(path), BytesDevice(data, "disk.img")]


def test_reads_are_exact_and_short_only_at_the_end(tmp_path: Path) -> None:
    data = bytes(range(256)) * 16
    for device in devices(tmp_path, data):
        assert (device.name, device.size) == ("disk.img", 4096)
        assert device.pread(100, 50) == data[100:150]
        assert device.pread(4090, 100) == data[4090:]
        assert device.pread(5000, 10) == b""
        device.close()


def test_a_hint_changes_nothing_whatever_it_says(tmp_path: Path) -> None:
    data = bytes(range(256)) * 16
    for device in devices(tmp_path, data):
        for offset, length in ((0, 4096), (100, 1 << 40), (1 << 40, 10), (0, -1)):
            device.expect(offset, length)
        assert device.pread(0, 5000) == data
        device.close()


def test_a_file_is_opened_read_only(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"x" * 512)
    path.chmod(0o444)
    device = FileDevice(path)
    flags = Path(f"/proc/self/fdinfo/{device.fileno()}").read_text()
    access = int(flags.split("flags:")[1].split()[0], 8)
    assert access & 0o3 == 0
    device.close()
    device.close()


def test_directories_and_pipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a directory"):
        FileDevice(tmp_path)
    with pytest.raises(OSError, match="neither a file nor a block device"):
        FileDevice("/dev/null")
    with pytest.raises(FileNotFoundError):
        FileDevice(tmp_path / "absent")
