"""Where image bytes come from; the only package that opens an image."""

from wofs.device.base import BytesDevice, Device
from wofs.device.file import FileDevice
from wofs.device.source import Probe, open_device

__all__ = ["BytesDevice", "Device", "FileDevice", "Probe", "open_device"]
