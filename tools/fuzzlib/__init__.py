"""Coverage-guided fuzzing of every parser: what is fed, what may come of it, the corpus."""
