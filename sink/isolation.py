"""Isolation: find the bad members of a group by halves. The plan is pure.

A group that fails is tried again as two halves, down to single members; every
other member is written. With k bad among n the trials grow with k log(n / k).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["IsolationPlan"]

T = TypeVar("T")


@dataclass(slots=True)
class IsolationPlan(Generic[T]):
    """Which group to try next; tell it what came of each.

    Groups come in the order of their members. `trials` counts the tries.
    """

    members: Sequence[T]
    trials: int = 0
    _groups: list[Sequence[T]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.members:
            self._groups.append(self.members)

    def next_group(self) -> Sequence[T] | None:
        """The group to try now; None when all is settled."""
        if not self._groups:
            return None
        self.trials += 1
        return self._groups.pop()

    def failed(self, group: Sequence[T]) -> T | None:
        """Tell that a group failed; returns its member when it is the bad one."""
        if len(group) == 1:
            return group[0]
        middle = len(group) // 2
        self._groups.append(group[middle:])
        self._groups.append(group[:middle])
        return None
