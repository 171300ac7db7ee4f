"""The read-only checker: reads all metadata of an image and reports every broken rule.

Nothing here writes, prints or stops at the first problem. `problems` holds the one table of
rules, `run.check` does the passes in order.
"""
