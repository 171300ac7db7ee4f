"""What the tools around the slab share: builds outside the tree, a C driver, a fuzzer."""
