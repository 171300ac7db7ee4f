"""Campaigns of faults: each is made, met by a reader in a child process, and judged by laws.

`fault` says what a fault is, `laws` what may come of it, `unit` what is done at a time.
"""
