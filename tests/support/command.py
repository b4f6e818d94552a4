"""The `oddslog` command as a child process, as a person or a script runs it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from tests.support.prefork import Forked, fork_oddslog

__all__ = ["Command", "Result"]

TIMEOUT_SECONDS = 120.0
# "sink: 2,500 of 7,800 records": said every few seconds, so only where it takes long.
_PROGRESS = re.compile(r"[a-z]+: [\d,]+ of [\d,]+ ")


@dataclass(frozen=True)
class Result:
    """How a run ended, and what it said."""

    arguments: Sequence[str]
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The object in the last line of standard output."""
        return json.loads(self.out.splitlines()[-1])

    @property
    def error(self) -> str:
        """The one line that was said, but for progress: a failure that says more fails here."""
        lines = [line for line in self.err.splitlines() if line and not _PROGRESS.match(line)]
        assert len(lines) == 1, self
        assert lines[0].startswith("oddslog: "), self
        return lines[0].removeprefix("oddslog: ")

    def ok(self) -> "Result":
        """This result, if the command was fine."""
        assert self.code == 0, self
        assert "Traceback" not in self.err, self
        return self


@dataclass(frozen=True)
class Command:
    """Runs `oddslog` with just these settings; nothing of ours is taken from outside.

    `other` are variables that are no settings. `fresh` starts an interpreter anew, as do
    `other` variables, which it may read while it starts.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    other: Mapping[str, str] = field(default_factory=dict)
    fresh: bool = False

    def __call__(
        self, *arguments: str, stdin: str | None = None, timeout: float = TIMEOUT_SECONDS
    ) -> Result:
        """Run it to its end."""
        with self._start(arguments, stdin or "") as process:
            try:
                out, err = process.communicate(timeout=timeout)
            finally:
                process.kill()
        assert process.returncode is not None
        return Result(arguments, process.returncode, out, err)

    def environment(self) -> dict[str, str]:
        """The child's environment, with `ODDSLOG_` before each setting's name."""
        kept = {k: v for k, v in os.environ.items() if not k.upper().startswith("ODDSLOG_")}
        path = kept.get("PYTHONPATH")
        if path:  # relative to our folder, not to the child's
            kept["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, path.split(os.pathsep)))
        ours = {f"ODDSLOG_{name}": value for name, value in self.settings.items()}
        return {**kept, "COLUMNS": "80", **ours, **self.other}

    def but(self, **settings: str) -> "Command":
        """The same with other settings."""
        return replace(self, settings={**self.settings, **settings})

    @contextmanager
    def running(self, *arguments: str) -> Iterator["Running"]:
        """Start it, and make sure that it is gone afterwards."""
        with self._start(arguments) as process:
            try:
                yield Running(process, arguments)
            finally:
                process.kill()

    def _start(self, arguments: Sequence[str], stdin: str = "") -> "Forked | subprocess.Popen[str]":
        """Start it with an input that is there as a whole; a fork where nothing tells it apart."""
        with TemporaryFile("w+", encoding="utf-8") as asked:
            asked.write(stdin)
            asked.seek(0)
            if not self.fresh and not self.other:
                return fork_oddslog(arguments, self.environment(), self.folder, asked)
            return subprocess.Popen(
                [sys.executable, "-m", "oddslog.deploy", *arguments],
                env=self.environment(),
                cwd=self.folder,
                stdin=asked,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )


@dataclass
class Running:
    """A run that goes on."""

    process: "Forked | subprocess.Popen[str]"
    arguments: Sequence[str]
    said: list[str] = field(default_factory=list)

    def wait_for(self, words: str) -> None:
        """Read standard error until a line has these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if words in line:
                return
        raise AssertionError(f"{self.arguments} never said {words!r}: {''.join(self.said)}")

    def end(self, number: int = signal.SIGTERM, timeout: float = TIMEOUT_SECONDS) -> Result:
        """Send a signal and wait."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=timeout)
        assert self.process.returncode is not None
        return Result(self.arguments, self.process.returncode, out, "".join(self.said) + err)
