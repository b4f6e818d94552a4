"""Which offsets of which partitions a replay reads. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ..schemas.errors import ConfigurationError
from .positions import Gap, LogRange

__all__ = ["SpanChoice", "adopted_gaps", "choose_spans", "wanted_partitions"]


@dataclass(frozen=True, slots=True)
class SpanChoice:
    """What was asked for: offsets and append times, from inclusive and to exclusive.

    Without partitions all of them; without a beginning from where the log begins,
    without an end up to where it ends now.
    """

    partitions: tuple[int, ...] = ()
    from_offset: int | None = None
    to_offset: int | None = None
    from_time: datetime | None = None
    to_time: datetime | None = None

    def check(self) -> None:
        """Look whether it makes sense by itself.

        Raises:
            ConfigurationError: it does not.
        """
        for end in ("from", "to"):
            if getattr(self, f"{end}_offset") is not None and getattr(self, f"{end}_time"):
                raise ConfigurationError(
                    f"--{end}-offset and --{end}-time both say where to"
                    f" {'begin' if end == 'from' else 'end'}; keep one of them"
                )
        for name in ("offset", "time"):
            first, last = getattr(self, f"from_{name}"), getattr(self, f"to_{name}")
            if first is not None and last is not None and first >= last:
                raise ConfigurationError(f"--from-{name} must be before --to-{name}")


def wanted_partitions(choice: SpanChoice, partition_count: int) -> list[int]:
    """The partitions to read.

    Raises:
        ConfigurationError: the topic has no such partition.
    """
    for partition in choice.partitions:
        if partition >= partition_count:
            raise ConfigurationError(
                f"--partition: the topic has no partition {partition}; it has"
                f" {partition_count}, from 0 to {partition_count - 1}"
            )
    return sorted(set(choice.partitions)) or [*range(partition_count)]


def choose_spans(
    choice: SpanChoice,
    ranges: Mapping[int, LogRange],
    first_at: Mapping[int, int | None],
    last_at: Mapping[int, int | None],
) -> dict[int, LogRange]:
    """The span of each partition; an empty one where nothing of it was asked for.

    Args:
        choice: what was asked for.
        ranges: what the log holds of the wanted partitions.
        first_at: the first offset at or after `from_time`, None where there is none.
        last_at: the same of `to_time`.

    Raises:
        ConfigurationError: records that were asked for are gone, or not there yet.
    """
    spans = {}
    for partition, held in ranges.items():
        start, end = held.start, held.end
        if choice.from_offset is not None:
            start = _from_offset(choice, partition, held)
        elif choice.from_time is not None:
            found = first_at.get(partition)
            start = held.end if found is None else max(found, held.start)
        if choice.to_offset is not None:
            end = min(choice.to_offset, held.end)
        elif choice.to_time is not None:
            found = last_at.get(partition)
            end = held.end if found is None else min(found, held.end)
        spans[partition] = LogRange(start, max(start, end))
    return spans


def _from_offset(choice: SpanChoice, partition: int, held: LogRange) -> int:
    start = choice.from_offset or 0
    if start < held.start:
        raise ConfigurationError(
            f"--from-offset: partition {partition} begins at offset {held.start}, what was before"
            " it is gone; leave the option out to begin there"
        )
    if start > held.end and choice.partitions:
        raise ConfigurationError(
            f"--from-offset: partition {partition} ends at offset {held.end}, there is no {start}"
        )
    return min(start, held.end)


def adopted_gaps(
    spans: Mapping[int, LogRange],
    ranges: Mapping[int, LogRange],
    *,
    partition_count: int,
    accept_gap: bool,
) -> dict[int, Gap]:
    """The gaps that a ledger begins with which is made of a replay of these spans.

    Raises:
        ConfigurationError: it is not a replay from the log's start, or the log does not
            begin at offset 0 and nobody accepts that.
    """
    left_out = [p for p in range(partition_count) if p not in spans]
    if left_out:
        raise ConfigurationError(
            f"--adopt takes every partition, and partition {left_out[0]} is left out; leave"
            " --partition out"
        )
    gaps = {}
    for partition, span in spans.items():
        held = ranges[partition]
        if span.start != held.start:
            raise ConfigurationError(
                f"--adopt takes the log from its start: partition {partition} begins at offset"
                f" {held.start}, not {span.start}; leave --from-offset and --from-time out"
            )
        if held.start > 0:
            gaps[partition] = Gap(0, held.start)
    if gaps and not accept_gap:
        partition, gap = next(iter(gaps.items()))
        raise ConfigurationError(
            f"--adopt: partition {partition} begins at offset {gap.to_offset}: what was before it"
            " is gone from the log and will not be in the database. To go on and note the gap,"
            " add --accept-gap"
        )
    return gaps
