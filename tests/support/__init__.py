"""Part of the tests: support."""
