"""The command line: `wofs VERB IMAGE [PATH]`, a module per verb."""
