"""The suite's fixtures live in families below tests/fixtures."""

import signal

pytest_plugins = ["tests.fixtures.servers", "tests.fixtures.sinks"]

# A run in the background (nohup, a CI job) ignores these, and so would every child
# that a test means to interrupt: what is ignored is inherited.
for _signal, _default in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, _default)
