"""Attacks on the slab, each run in a process of its own by `python -m support.attacks`."""
