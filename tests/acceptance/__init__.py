"""Part of the tests: acceptance."""
