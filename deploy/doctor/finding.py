"""What a check came to, in one line."""

from dataclasses import dataclass
from enum import StrEnum

from ...schemas.errors import OddslogError

__all__ = ["Finding", "Level", "exit_code", "fail", "failed", "ok", "warn"]


class Level(StrEnum):
    """`fail`: the sink cannot work, or stops; `warn`: it works, and a promise is weaker."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """A check, what it found, and what to do about it (empty where nothing is)."""

    check: str
    level: Level
    says: str
    do: str = ""
    exit_code: int = 0

    def line(self) -> str:
        """For people."""
        return f"{self.level:<4}  {self.check:<18}  {self.says}{'. ' if self.do else ''}{self.do}"


def ok(check: str, says: str) -> Finding:
    """Nothing to do."""
    return Finding(check, Level.OK, says)


def warn(check: str, says: str, do: str) -> Finding:
    """Something to mend some day."""
    return Finding(check, Level.WARN, says, do)


def fail(check: str, says: str, do: str, exit_code: int = 1) -> Finding:
    """Something to mend now."""
    return Finding(check, Level.FAIL, says, do, exit_code)


def failed(check: str, error: OddslogError) -> Finding:
    """An error that came instead of an answer; it says itself what to do."""
    return fail(check, " ".join(str(error).split()), "", error.exit_code)


def exit_code(findings: list[Finding]) -> int:
    """3 where a server is away, else 2 for wrong settings, else 1 where something fails."""
    return max((finding.exit_code for finding in findings), default=0)
