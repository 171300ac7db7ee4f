"""Showing what wofs is for: the first run, and stray writes at live mount structures."""
