"""Part of the tests: integration."""
