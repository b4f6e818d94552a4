"""The suite's fixtures live in families below tests/fixtures."""

import signal

from hypothesis import HealthCheck, settings

# Neither is about our code: both fail on a busy machine.
settings.register_profile("oddslog", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("oddslog")

pytest_plugins = ["tests.fixtures.servers", "tests.fixtures.sinks", "tests.fixtures.replays"]

# A run in the background (nohup, a CI job) ignores these, and so would every child
# that a test means to interrupt: what is ignored is inherited.
for _signal, _default in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, _default)
