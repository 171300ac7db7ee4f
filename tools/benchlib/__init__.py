"""What `tools/bench` measures: images, the sides that serve them, workloads, and a ceiling."""
