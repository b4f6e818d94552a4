"""Running a verification: its progress, its repairs, and what it says at the end."""

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..sink.verify import Verified, verify
from ..sink.verify_findings import Difference, Explained, Findings, Found
from ..sink.verify_state import VerifyOptions
from .console import Meter, Out
from .database import asking, open_engine
from .kafka import usable_topic
from .settings import Settings

__all__ = ["VerifyRun", "as_json", "run_verify", "say"]

_SAID = {
    Found.MISSING: "missing (in the log, not in the tables)",
    Found.DIFFERENT: "different",
    Found.UNEXPECTED: "unexpected (in the tables, not in the log)",
    Found.OTHER_LOG: "of a log that was never registered",
    Found.ORPHANED: "market rows without a snapshot",
    Found.CONFIRMATION: "last_confirmed_at not what the log says",
}
_SAID_EXPLAINED = {
    Explained.DEAD_LETTERS: "kept as dead letters",
    Explained.PENDING: "confirmations that wait for their snapshot",
    Explained.DUPLICATES: "duplicates in the log",
    Explained.PLAIN_IDS: "confirmations by plain id",
    Explained.ACCEPTED_GAPS: "offsets in accepted gaps",
    Explained.NOT_IN_LOG: "rows whose record retention has taken",
    Explained.BEFORE_LOG: "rows from before the log",
    Explained.WITHOUT_LOG: "rows written without Kafka",
    Explained.OTHER_GENERATIONS: "rows of logs that cannot be read here",
    Explained.OUTSIDE_LEDGER: "rows of records outside of the ledger",
    Explained.CONFIRMED_ELSEWHERE: "confirmed later by another writer",
}


@dataclass(frozen=True)
class VerifyRun:
    """What came of it; `after` is the second comparison, where repairs were made."""

    options: VerifyOptions
    verified: Verified
    after: Verified | None
    seconds: float

    @property
    def equal(self) -> bool:
        """Whether the tables are now what the log says."""
        return (self.after or self.verified).findings.equal


async def run_verify(settings: Settings, options: VerifyOptions, out: Out) -> VerifyRun:
    """Verify, and where something was mended verify again.

    Raises:
        OddslogError: as `verify` says; a server that is away is an UnreachableError.
    """
    started = time.perf_counter()
    await usable_topic(settings.kafka(), settings.topic)
    async with open_engine(settings, "verify") as engine:
        with asking(engine):
            first = await _once(engine, settings, options, out, "verify")
            after = None
            if options.repair and not first.findings.equal:
                again = replace(options, repair=False)
                after = await _once(engine, settings, again, out, "verify again")
    return VerifyRun(options, first, after, time.perf_counter() - started)


async def _once(
    engine: Any, settings: Settings, options: VerifyOptions, out: Out, label: str
) -> Verified:
    progress = _Progress(out, label)
    try:
        return await verify(engine, settings.kafka(), settings.topic, options, progress)
    finally:
        progress.end()


class _Progress:
    """The meter, from when it is known how much there is."""

    def __init__(self, out: Out, label: str) -> None:
        self._out = out
        self._label = label
        self._context: Any = None
        self._meter: Meter | None = None

    def begin(self, total: int) -> None:
        self._context = self._out.meter(self._label, total, "records")
        self._meter = self._context.__enter__()

    def move_to(self, done: int) -> None:
        if self._meter is not None:
            self._meter.move_to(done)

    def end(self) -> None:
        if self._context is not None:
            self._context.__exit__(None, None, None)


def say(run: VerifyRun, out: Out) -> None:
    """The result for people."""
    _say_findings(run.verified.findings, run.seconds, out)
    for note in left_out(run.options):
        out.note(note)
    if run.options.repair and not run.verified.findings.equal:
        done = [(name.replace("_", " "), n) for name, n in sorted(run.verified.repaired.items())]
        out.facts([pair for pair in done if pair[1]] or [("nothing", "-")], title="Repaired")
    if run.after is not None:
        if run.after.findings.equal:
            out.say("Verified again: the tables are what the log says", style="green")
        else:
            out.say("Verified again; still:", style="bold")
            _say_findings(run.after.findings, None, out)
    elif not run.verified.findings.equal:
        out.note("to mend it: oddslog verify --repair")


def _say_findings(findings: Findings, seconds: float | None, out: Out) -> None:
    if findings.equal:
        out.say("The tables are what the log says", style="green")
    else:
        out.say(f"{findings.counts.total():,} differences", style="bold red")
        for difference in findings.differences:
            out.say(f"  {difference.line()}")
        if findings.not_kept:
            out.note(f"  and {findings.not_kept:,} more; see --show")
        out.facts([(_SAID[f], n) for f, n in findings.counts.items() if n], title="Differences")
    compared: list[tuple[str, object]] = [
        (name, getattr(findings, name))
        for name in ("records", "snapshots", "markets", "confirmations")
    ]
    if seconds is not None:
        compared.append(("seconds", round(seconds, 2)))
    out.facts(compared, title="Read from the log")
    explained = [(_SAID_EXPLAINED[why], n) for why, n in findings.explained.items() if n]
    if explained:
        out.facts(explained, title="No differences, and counted apart")


def left_out(options: VerifyOptions) -> list[str]:
    """What was not looked at."""
    notes = []
    if options.filtered:
        notes.append(
            "only a part of the log was read: unexpected rows, orphaned market rows and"
            " confirmations later than the log says were not looked for"
        )
    if options.quick:
        notes.append("--quick: the content of market rows and raw responses was not compared")
    elif not options.raw_response:
        notes.append("raw responses were not compared")
    return notes


def as_json(run: VerifyRun) -> dict[str, Any]:
    """The result for machines."""
    return {
        "equal": run.equal,
        "seconds": round(run.seconds, 3),
        "quick": run.options.quick,
        "raw_response": run.options.raw_response and not run.options.quick,
        "not_looked_for": left_out(run.options),
        **_findings_json(run.verified.findings),
        "spans": [
            {"log_id": log_id, "partition": p, "from_offset": s.start, "to_offset": s.end}
            for log_id, spans in run.verified.spans.items()
            for p, s in spans.items()
        ],
        "repaired": {k: n for k, n in sorted(run.verified.repaired.items()) if n},
        "after_repair": None if run.after is None else _findings_json(run.after.findings),
    }


def _findings_json(findings: Findings) -> dict[str, Any]:
    differences = [_difference_json(d) for d in findings.differences]
    return {
        "records": findings.records,
        "snapshots": findings.snapshots,
        "markets": findings.markets,
        "confirmations": findings.confirmations,
        "counts": {found.value: findings.counts[found] for found in Found},
        "explained": {why.value: findings.explained[why] for why in Explained},
        "dead_letters_by_status": dict(sorted(findings.letters.items())),
        "first_difference": differences[0] if differences else None,
        "differences": differences,
    }


def _difference_json(difference: Difference) -> dict[str, Any]:
    return {**asdict(difference), "found": difference.found.value}
