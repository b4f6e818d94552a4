"""The suite's fixtures live in families below tests/fixtures."""

pytest_plugins = ["tests.fixtures.servers", "tests.fixtures.sinks"]
