"""The `oddslog` command as a child process, as a person or a script runs it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    """Runs `oddslog` with just these settings; nothing of ours is taken from outside."""

    settings: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    other: Mapping[str, str] = field(default_factory=dict)

    def __call__(
        self, *arguments: str, stdin: str | None = None, timeout: float = TIMEOUT_SECONDS
    ) -> Result:
        """Run it to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "oddslog.deploy", *arguments],
            env=self.environment(),
            cwd=self.folder,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Result(arguments, done.returncode, done.stdout, done.stderr)

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
        return Command({**self.settings, **settings}, self.folder, self.other)

    @contextmanager
    def running(self, *arguments: str) -> Iterator["Running"]:
        """Start it, and make sure that it is gone afterwards."""
        with subprocess.Popen(
            [sys.executable, "-m", "oddslog.deploy", *arguments],
            env=self.environment(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield Running(process, arguments)
            finally:
                process.kill()


@dataclass
class Running:
    """A run that goes on."""

    process: "subprocess.Popen[str]"
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
        return Result(self.arguments, self.process.returncode, out, "".join(self.said) + err)
