"""What can be wrong with the input of a feed.

`FeedError` stops a feed; `LineError` is one bad line that a feed has passed over.
"""

from dataclasses import dataclass

from ...schemas.errors import ConfigurationError

__all__ = ["FeedError", "LineError"]


class FeedError(ConfigurationError):
    """The input of a feed cannot be used; one line says where and what to do."""


@dataclass(frozen=True, slots=True)
class LineError:
    """A line that was not fed.

    `line` counts from 1; `problem` begins with the JSON path of the bad field
    where there is one.
    """

    source: str
    line: int
    problem: str

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}: {self.problem}"
