"""Serving a mounted image through FUSE; the only package that knows pyfuse3."""
