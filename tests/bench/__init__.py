"""Part of the tests: bench."""
