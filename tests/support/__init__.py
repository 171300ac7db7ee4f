"""Helpers of the tests: images, manifests through the library, FUSE mounts in a child."""
