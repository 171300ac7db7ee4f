"""Making test images with mkfs.xfs and the kernel, and saying what a tree holds (manifests).

Standard library only; shared by `tools/mkimages` and the tests.
"""
