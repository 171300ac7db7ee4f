"""A mounted image served through FUSE; the only package that knows pyfuse3, trio and errno.

Importing it loads neither: `session` and `ops` do.
"""
