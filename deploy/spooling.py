"""The spool for the commands: where it is, sending it, writing it out."""

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path
from random import random

from ..ingest.kafka_destination import ROTATE_RECORDS
from ..ingest.publisher import Publisher
from ..ingest.spool import Spool
from ..ingest.spool_drain import Drainer
from ..ingest.spool_errors import SpoolError
from ..ingest.spool_look import export_lines
from ..ingest.spool_store import SpoolStore
from ..schemas.errors import ConfigurationError, DeliveryError, UnreachableError
from .console import Meter
from .settings import Settings, variable

__all__ = ["Drained", "Exported", "drain", "export", "require_spool"]

# A broker that hangs is given up after so many tries in a row, of 10 s each.
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Drained:
    """What was sent, and what the brokers will never take."""

    fragments: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written out, and removed from the spool."""

    rejected: int
    waiting: int
    removed: int


def require_spool(settings: Settings) -> Path:
    """The spool's folder.

    Raises:
        ConfigurationError: none is set, or there is no spool in it.
    """
    if settings.spool_dir is None:
        raise ConfigurationError(
            f"{variable('spool_dir')} is not set; it names the spool's folder (or: --spool-dir)"
        )
    directory = Path(settings.spool_dir)
    if not (directory / "spool.sqlite").exists() and not (directory / "spool.lock").exists():
        raise ConfigurationError(f"there is no spool in {directory}")
    return directory


async def drain(settings: Settings, directory: Path, meter: Meter) -> Drained:
    """Send everything to Kafka, in order.

    Raises:
        UnreachableError: no broker answers, or not in time; what was not sent stays.
        ConfigurationError: the spool is in use, or the topic cannot be used.
        SpoolError: the disk fails.
    """
    spool = Spool(directory, settings.spool_bytes)
    publisher = Publisher(
        settings.kafka(),
        settings.topic,
        linger_ms=5,
        client_id="oddslog-spool",
        rotate_records=ROTATE_RECORDS,
    )
    await spool.open()
    try:
        before = spool.counts.rejected
        if not spool.counts.empty:
            await publisher.start()
        if publisher.away:
            raise UnreachableError(
                f"Kafka does not answer at {settings.bootstrap_servers}, or refuses the"
                f" credentials; {_left(spool)}"
            )
        drainer = Drainer(spool, publisher, sleep=asyncio.sleep, jitter=random)
        await _drain(spool, drainer, meter)
        return Drained(drainer.sent, spool.counts.rejected - before)
    finally:
        await publisher.stop()
        await spool.close()


async def _drain(spool: Spool, drainer: Drainer, meter: Meter) -> None:
    tries = 0
    while not spool.counts.empty:
        try:
            await drainer.step()
        except UnreachableError as error:
            raise UnreachableError(f"{error}; {_left(spool)}") from error
        except SpoolError:  # the local disk: no broker is at fault
            raise
        except DeliveryError as error:
            tries += 1
            if tries == _TRIES:
                raise UnreachableError(f"{error}; {_left(spool)}") from error
        else:
            tries = 0
        meter.move_to(drainer.sent)


def _left(spool: Spool) -> str:
    return f"{spool.counts.fragments:,} fragments are still in the spool in {spool.directory}"


def export(directory: Path, target: Path, *, everything: bool, remove: bool) -> Exported:
    """Write rejected rows, and with `everything` the waiting ones, as lines of JSON.

    The file is on the disk before anything is removed.

    Raises:
        ConfigurationError: the file is there or cannot be made, or, to remove, the
            spool is in use.
    """
    rejected = waiting = last_id = 0
    try:
        with target.open("x", encoding="utf-8") as file:
            for row_id, fields in export_lines(directory, everything=everything):
                file.write(json.dumps(fields) + "\n")
                last_id = max(last_id, row_id)
                rejected += fields["state"] == "rejected"
                waiting += fields["state"] == "waiting"
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise ConfigurationError(f"{target} is there already; name another file") from None
    except OSError as error:
        raise ConfigurationError(
            f"{target} cannot be written: {error.strerror or error}"
        ) from error
    if not (remove and last_id):
        return Exported(rejected, waiting, 0)
    store = SpoolStore(directory, max_bytes=1)
    store.open()
    try:
        store.remove_rejected(last_id)
    finally:
        store.close()
    return Exported(rejected, waiting, rejected)
