"""Who takes part: a feeder and the sinks, each with its way to the servers."""

from pathlib import Path

from ..settings import Settings, variable
from .faults import Seat, Targets
from .feeder import SPOOL
from .guard import MARK, Guard
from .members import Member, Program, run_once
from .place import Place, Way
from .result import Plan, Progress

__all__ = ["Cast"]

# Short, so that the partitions of a member that is gone are soon another's.
_SESSION_TIMEOUT_SECONDS = 4.0
# Short, so that a member that stands still for longer is a zombie.
REBALANCE_TIMEOUT_SECONDS = 10.0
# Small, so that there are many transactions to hit.
_POLL_RECORDS = 60
_BATCHES_A_SECOND = 4.0
_CATCH_UP_SECONDS = 600.0
# A snapshot whose parent never comes still waits when everything is over.
_PARENT_WAIT_SECONDS = 86400.0
_FENCED = b'"zombie_terminated"'


class Cast:
    """The processes: a feeder and the sinks."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        place: Place,
        settings: Settings,
        progress: Progress,
        guard: Guard,
    ) -> None:
        self._guard = guard
        self._folder = folder
        self._place = place
        self._settings = settings
        self._progress = progress
        first, *others = place.ways
        feed = Program(
            "oddslog.deploy.torture.feeder",
            lambda life: [str(folder), str(plan.seed), str(life), str(_BATCHES_A_SECOND)],
            self._environment(first),
        )
        self.feeder = self._seat("feeder", "feeder_killed_at_point", feed, first)
        self.sinks = [
            self._seat(f"sink-{number}", "sink_killed_at_point", self._sink_program(way), way)
            for number, way in enumerate(others)
        ]

    @property
    def members(self) -> list[Member]:
        """All of them."""
        return [seat.member for seat in (self.feeder, *self.sinks)]

    @property
    def restarts(self) -> int:
        """How often one was started again."""
        return sum(max(0, member.starts - 1) for member in self.members)

    @property
    def peak_bytes(self) -> int | None:
        """The most memory that a sink took."""
        peaks = [seat.member.peak_bytes for seat in self.sinks]
        return max((peak for peak in peaks if peak is not None), default=None)

    @property
    def fenced(self) -> int:
        """How many backends of zombies the sinks have ended, as they logged it."""
        logs = (self._folder / f"{seat.member.name}.log" for seat in self.sinks)
        return sum(log.read_bytes().count(_FENCED) for log in logs if log.exists())

    def targets(self) -> Targets:
        """What the faults may break."""
        return Targets(
            self.feeder, self.sinks, self._place.own, self._settings.require_database_url()
        )

    def calm(self) -> None:
        """No fault is left."""
        for way in self._place.ways:
            way.calm()
        for member in self.members:
            member.calm()

    async def drain_spool(self) -> None:
        """Send what the feeder's last life left in the spool; a finding where that fails."""
        spool = self._folder / SPOOL
        if spool.is_dir():
            program = Program(
                "oddslog.deploy",
                lambda _: ["spool", "drain", "--spool-dir", str(spool)],
                self._environment(self._place.ways[0]),
            )
            await self._run_once("the drain of the spool", program)

    async def catch_up(self) -> None:
        """Run one more sink up to the log's end; a finding where that does not work."""
        program = self._sink_program(self._place.ways[1], "--until-caught-up", "--json")
        await self._run_once("the sink until caught up", program)

    async def _run_once(self, what: str, program: Program) -> None:
        log = self._folder / "afterwards.log"
        code = await run_once(program, log, _CATCH_UP_SECONDS, self._guard.watch)
        if code != 0:
            how = f"ended with exit code {code}" if code is not None else "did not end"
            tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            self._progress.find(f"{what} {how}: {tail}")

    def _seat(self, name: str, at_point: str, program: Program, way: Way) -> Seat:
        def on_point() -> None:
            self._progress.faults[at_point] += 1

        member = Member(
            name,
            program,
            self._folder / f"{name}.log",
            on_start=self._guard.watch,
            on_point=on_point,
            on_finding=self._progress.find,
        )
        return Seat(member, way.kafka, way.postgres)

    def _sink_program(self, way: Way, *options: str) -> Program:
        return Program("oddslog.deploy", lambda _: ["sink", *options], self._environment(way))

    def _environment(self, way: Way) -> dict[str, str]:
        settings = self._settings
        values = {
            "bootstrap_servers": way.bootstrap_servers(self._place.servers),
            "topic": settings.topic,
            "group": settings.group,
            "database_url": way.database_url(settings.require_database_url()),
            "database_schema": settings.database_schema,
            "security_protocol": settings.security_protocol,
            "session_timeout_seconds": str(_SESSION_TIMEOUT_SECONDS),
            "rebalance_timeout_seconds": str(REBALANCE_TIMEOUT_SECONDS),
            "parent_wait_seconds": str(_PARENT_WAIT_SECONDS),
            "poll_records": str(_POLL_RECORDS),
            "raw_response": "database",
            "http_address": "off",
            "log_level": "",
        }
        environment = {variable(name): value for name, value in values.items()}
        return {**environment, f"{variable('database_url')}_FILE": "", MARK: str(self._folder)}
