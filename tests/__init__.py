"""The tests: unit, integration, acceptance, and the bench."""
