"""The ledger against the log: what a sink would find when it takes its positions. Pure."""

from collections.abc import Callable, Mapping, Sequence

from ...schemas.errors import ProtectionError
from ...sink.ledger import LogIdentity
from ...sink.positions import LastApplied, LedgerRow, LogRange, Placement, first_offset, place
from ..queries import KnownLog
from .finding import Finding, fail, ok, warn

__all__ = ["judge_ledger", "known_as"]

_MOVED = "If the log was moved on purpose: oddslog ledger adopt --help"


def known_as(logs: Sequence[KnownLog], identity: LogIdentity) -> KnownLog | None:
    """The log's newest generation in the database, as the sink finds it."""
    found = [
        log for log in logs if (log.cluster_id, log.topic) == (identity.cluster_id, identity.topic)
    ]
    return max(found, key=lambda log: log.generation, default=None)


def judge_ledger(
    logs: Sequence[KnownLog],
    ledger: Mapping[int, Mapping[int, LedgerRow]],
    identity: LogIdentity,
    ranges: Mapping[int, LogRange],
    committed: Mapping[int, int | None],
    last: Mapping[int, LastApplied],
) -> Finding:
    """The worst of what is found; the others are counted.

    Args:
        logs: that the database knows.
        ledger: its rows by log id.
        identity: the log as it is now.
        ranges: what it holds.
        committed: the group's offsets.
        last: what is now where the last applied records were.
    """
    known = known_as(logs, identity)
    if known is None:
        other = _other_cluster(logs, ledger, identity)
        if other is not None:
            return fail(
                "positions",
                f"this database was filled from topic {identity.topic} of cluster {other},"
                f" and this is cluster {identity.cluster_id}",
                _MOVED,
            )
        rows: Mapping[int, LedgerRow] = {}
    else:
        rows = ledger.get(known.log_id, {})
        if identity.partition_count < known.partition_count:
            return fail(
                "positions",
                f"topic {identity.topic} has {identity.partition_count} partitions and had"
                f" {known.partition_count}: it was made anew",
                _MOVED,
            )
    placements: dict[int, Placement] = {}
    problems = []
    for number, held in sorted(ranges.items()):
        problem = _problem(placements, number, held, rows.get(number), committed.get(number))
        problem = problem or _other_record(number, rows.get(number), last)
        if problem is not None:
            problems.append(problem)
    if problems:
        more = f" (and {len(problems) - 1} partitions more)" if len(problems) > 1 else ""
        return fail("positions", f"{problems[0]}{more}", "")
    return _placed(placements, ranges, last, first_time=not rows)


def _other_cluster(
    logs: Sequence[KnownLog],
    ledger: Mapping[int, Mapping[int, LedgerRow]],
    identity: LogIdentity,
) -> str | None:
    """Another cluster's log of this name, with anything written from it."""
    for log in logs:
        written = any(row.last is not None for row in ledger.get(log.log_id, {}).values())
        if log.topic == identity.topic and log.cluster_id != identity.cluster_id and written:
            return log.cluster_id
    return None


def _problem(
    placements: dict[int, Placement],
    number: int,
    held: LogRange,
    row: LedgerRow | None,
    committed: int | None,
) -> str | None:
    """Why the sink would stop at a partition; its placement is noted where it would not."""

    def placed() -> Placement:
        if row is not None:
            return place(row, held, committed=committed, accept_gap=False)
        start, _ = first_offset(number, held, accept_gap=False, start=None)
        return Placement(start, start, None, went_back=bool(committed))

    problem, placement = _stopped(placed)
    if placement is not None:
        placements[number] = placement
    return problem


def _stopped(placed: Callable[[], Placement]) -> tuple[str | None, Placement | None]:
    try:
        return None, placed()
    except ProtectionError as error:
        return str(error), None


def _other_record(
    number: int, row: LedgerRow | None, last: Mapping[int, LastApplied]
) -> str | None:
    if row is None or row.last is None or number not in last or last[number] == row.last:
        return None
    return (
        f"partition {number}: the record at offset {row.last.offset} is not the one that was"
        f" written to this database. {_MOVED}"
    )


def _placed(
    placements: Mapping[int, Placement],
    ranges: Mapping[int, LogRange],
    last: Mapping[int, LastApplied],
    *,
    first_time: bool,
) -> Finding:
    left = sum(ranges[number].end - one.next_offset for number, one in placements.items())
    if any(one.went_back for one in placements.values()) and left:
        return warn(
            "positions",
            f"the group was further than the ledger (a restored database, or another group):"
            f" {left:,} records are written again",
            "Nothing, if that is so; the sink refills by itself",
        )
    unchecked = [number for number, one in placements.items() if one.unchecked]
    if unchecked:
        return warn(
            "positions",
            f"of {len(unchecked)} partitions the last applied record is gone from the log: nobody"
            " can tell whether it is the same log",
            "Keep records for longer than a sink may stand still (retention.ms)",
        )
    if first_time:
        return ok("positions", f"nothing was written yet; {left:,} records from offset 0 on")
    checked = f"{len(last)} last records are those remembered"
    return ok("positions", f"{len(placements)} partitions go on, {left:,} to write; {checked}")
