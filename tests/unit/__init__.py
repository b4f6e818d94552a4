"""Part of the tests: unit."""
