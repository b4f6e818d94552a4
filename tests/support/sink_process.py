"""The real command as a child process: started, watched by its log, ended."""

import json
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.support.prefork import fork_oddslog

# One budget for every wait: far above what a loaded machine needs, so that it
# only ends a test that would never end.
BUDGET_SECONDS = 90.0


def clean_environment() -> dict[str, str]:
    """This process's environment without any setting of oddslog."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ODDSLOG_")}


class SinkProcess:
    """`oddslog sink` in a process of its own; its log events can be waited for.

    `start` runs the command: of this tree, where nothing else is said.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *options: str,
        start: Callable[[Sequence[str], Mapping[str, str]], Any] = fork_oddslog,
    ) -> None:
        # Several of them run at a time, and one could have the default port.
        env = {**clean_environment(), "ODDSLOG_HTTP_ADDRESS": "off", **environment}
        self.process = start(["sink", *options], env)
        self.lines: list[str] = []
        self._placed = False
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())
            try:
                self._events.put(json.loads(line))
            except ValueError:
                continue
        self._events.put(None)

    def wait_placed(self) -> None:
        """Wait until it reads a partition (at once where it did before)."""
        if not self._placed:
            self.wait_event("partition_placed")
            self._placed = True

    def wait_event(self, name: str) -> None:
        """Wait until the log has such an event, behind the last one waited for."""
        deadline = time.monotonic() + BUDGET_SECONDS
        while True:
            event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            if event is None:
                raise AssertionError(f"the sink ended before {name}: {self.tail()}")
            if event.get("event") == name:
                return

    def wait_killed(self) -> None:
        """Wait until the process has ended by SIGKILL."""
        code: int = self.process.wait(BUDGET_SECONDS)
        self._close()
        assert code == -signal.SIGKILL, f"ended with {code}: {self.tail()}"

    def wait_end(self) -> int:
        """Wait until it has ended by itself; returns its exit code."""
        code: int = self.process.wait(BUDGET_SECONDS)
        self._close()
        return code

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(BUDGET_SECONDS)
        self._close()

    def stop(self) -> int:
        """Ask it to end, as an orchestrator does; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        code: int = self.process.wait(BUDGET_SECONDS)
        self._close()
        return code

    def end(self) -> None:
        """End it if it still runs, whatever the test came to."""
        if self.process.poll() is None:
            self.kill()

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.lines[-8:])

    def _close(self) -> None:
        self._reader.join(BUDGET_SECONDS)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
