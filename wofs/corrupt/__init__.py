"""Damage on purpose: where the structures of an image lie, and edits that keep a record.

Nothing here writes to an image: edits are laid over a device (`wofs.device.overlay`) and
written to a copy by `wofs.corrupt.copy`.
"""
