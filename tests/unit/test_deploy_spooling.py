"""`oddslog spool drain` inside: what fails is named by what it is."""

import asyncio
from pathlib import Path

import pytest

from oddslog.deploy.spooling import _drain
from oddslog.ingest.publisher import Parcel
from oddslog.ingest.spool import Spool
from oddslog.ingest.spool_drain import Drainer
from oddslog.ingest.spool_errors import SpoolError
from oddslog.ingest.spool_store import SpoolStore
from tests.support.spools import fragment


class Willing:
    """Brokers that take everything."""

    async def publish(self, parcel: Parcel, deadline_seconds: float) -> None:
        """See `Publishing`."""
        for one in parcel.fragments:
            one.acknowledged = True


class Silent:
    """A progress that nobody sees."""

    def advance(self, count: int = 1) -> None:
        """See `Meter`."""

    def move_to(self, done: int) -> None:
        """See `Meter`."""


async def test_a_failing_local_disk_is_not_called_an_unreachable_kafka(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1, not 3: waiting for the brokers would not help."""

    def fail(*_: object) -> None:
        raise SpoolError("the disk fails")

    spool = Spool(tmp_path)
    await spool.open()
    try:
        await spool.append([fragment(1)])
        monkeypatch.setattr(SpoolStore, "acknowledge", fail)
        drainer = Drainer(spool, Willing(), sleep=asyncio.sleep, jitter=lambda: 0.0)
        with pytest.raises(SpoolError, match="the disk fails") as caught:
            await _drain(spool, drainer, Silent())
        assert caught.value.exit_code == 1
    finally:
        await spool.close()
