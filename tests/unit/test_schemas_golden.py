"""Golden files: every fragment ever written decodes for ever, to the same values.

`tests/data/golden/<schema>/<name>.bin` is the value of a Kafka record, `<name>.json`
what it must decode to. Files of a released version are never written again. For a
new version: add its schema, then run once

    python -m tests.unit.test_schemas_golden

which writes the cases below in the newest schema, and adds nothing to older ones.
Look at the JSON files before they are committed: they are chosen, not observed.
"""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from oddslog.schemas.codec import (
    EventWrites,
    decode,
    decoded_hash,
    encode,
    snapshot_from_record,
    snapshot_part,
)
from oddslog.schemas.framing import CURRENT_SCHEMA, SCHEMA_FILES
from oddslog.schemas.records import (
    CompetitorSnapshotWriteData,
    MarketWriteData,
    SnapshotWriteData,
)
from oddslog.schemas.wire import Kind

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
BINARIES = sorted(GOLDEN.rglob("*.bin"))

# The h1 hashes of the golden snapshots. They are in people's databases.
HASHES = {
    "event_writes.v1/betpawa": [726878190367832319],
    "event_writes.v1/competitor": [4733384295001110874, -5122571899900722989],
    "event_writes.v1/extremes": [-874221275513118169],
}


def folder_of(schema_file: str) -> Path:
    """The folder of a schema's golden files."""
    return GOLDEN / schema_file.removesuffix(".avsc")


def name_of(path: Path) -> str:
    """The folder and the case."""
    return f"{path.parent.name}/{path.stem}"


def golden_fragments() -> dict[str, EventWrites]:
    """The cases, by name; new ones come with a new schema version."""
    noon = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
    whole = MarketWriteData(
        "3743", "1X2", None, None, None, None, [{"name": "1", "odds": 1.5}, {"odds": 4}], ["main"]
    )
    handicap = MarketWriteData(
        "4724", "Asian Handicap", -0.25, "asian", -0.25, 0.25, {"home": 1.91, "away": None}, None
    )
    betpawa = SnapshotWriteData(
        31415926, 1, 42, {"id": "31415926", "markets": [1, 1.0, True]}, (whole, handicap), noon
    )
    named = MarketWriteData(
        "Über 2½",
        "Ποιος θα κερδίσει; 🏆",
        2.5,
        "całość",
        None,
        None,
        ["Więcej", "\\u0000"],
        ["Gole"],
    )
    competitor = CompetitorSnapshotWriteData(
        2718281, None, None, (named,), noon - timedelta(days=25000, microseconds=1)
    )
    # Its hash is negative, as half of them are.
    closed = CompetitorSnapshotWriteData(2718281, 43, {}, (named, whole), noon)
    bounds = MarketWriteData(
        "x", "", 1.7976931348623157e308, "", 5e-324, -123456.789, {"": [-0.0, 10**30]}, []
    )
    extremes = SnapshotWriteData(
        2**63 - 1, -(2**63), -1, [], (bounds,), datetime(9999, 12, 31, 23, 59, 59, 999998, UTC)
    )
    past = datetime(1, 1, 1, 0, 0, 0, 1, UTC)
    return {
        "betpawa": _golden(Kind.BETPAWA, 31415926, betpawa),
        "competitor": _golden(Kind.COMPETITOR, 2718281, competitor, closed),
        "extremes": _golden(
            Kind.BETPAWA,
            2**63 - 1,
            extremes,
            confirmed_at=past,
            confirmations=[{"bookmaker_id": 0, "captured_at": past}],
        ),
        "confirmations": _golden(
            Kind.COMPETITOR,
            2718281,
            confirmed_at=noon,
            confirmations=[
                {"bookmaker_id": None, "captured_at": noon - timedelta(minutes=5)},
                {"bookmaker_id": None, "captured_at": noon - timedelta(microseconds=1)},
            ],
        ),
        "plain_ids": _golden(
            Kind.BETPAWA, None, confirmed_at=noon, unchanged_ids=[1, 2**31, 2**63 - 1, -5]
        ),
    }


def _golden(
    kind: Kind,
    event_id: int | None,
    *snapshots: SnapshotWriteData | CompetitorSnapshotWriteData,
    **more: Any,
) -> EventWrites:
    without: dict[str, Any] = {"confirmed_at": None, "confirmations": [], "unchanged_ids": []}
    return EventWrites(
        batch_id=UUID("0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0ff"),
        batch_index=7,
        batch_count=26 if kind is Kind.BETPAWA else None,
        fragment_index=2,
        fragment_count=150,
        scrape_run_id=42,
        kind=kind,
        event_id=event_id,
        snapshots=[snapshot_part(one).record for one in snapshots],
        **{**without, **more},
    )


def as_json(value: Any) -> Any:
    """A fragment, or a part of one, in JSON's types."""
    if isinstance(value, EventWrites):
        return {name: as_json(getattr(value, name)) for name in EventWrites.__slots__}
    if isinstance(value, dict):
        return {name: as_json(member) for name, member in value.items()}
    if isinstance(value, list):
        return [as_json(member) for member in value]
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    return str(value) if isinstance(value, (UUID, Kind)) else value


def write_golden_files(folder: Path) -> None:
    """Write the files of a new schema version; those that exist stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, fragment in golden_fragments().items():
        if not (folder / f"{name}.bin").exists():
            (folder / f"{name}.bin").write_bytes(encode(fragment))
            text = json.dumps(as_json(fragment), ensure_ascii=False, indent=2)
            (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def h1(kind: str, ids: list[int], captured_at: datetime, markets: list[dict[str, Any]]) -> int:
    """The definition of DESIGN 4 once more, sharing no line with ours."""
    since = captured_at - datetime(1970, 1, 1, tzinfo=UTC)
    micros = (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds
    document: list[Any] = [kind, *ids, micros]
    for market in markets:
        fields = list(market.values())
        fields[6] = json.loads(market["outcomes"])
        fields[7] = market["market_groups"] and json.loads(market["market_groups"])
        document.append(fields)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    unsigned = int(hashlib.blake2b(text.encode()).hexdigest()[:16], 16)
    return unsigned - 2**64 if unsigned >= 2**63 else unsigned


def snapshots_of(path: Path) -> Iterator[tuple[Kind, int, Any]]:
    """The snapshots of a golden file."""
    fragment = decode(path.read_bytes())
    for record in fragment.snapshots:
        assert fragment.event_id is not None
        yield fragment.kind, fragment.event_id, record


def test_every_shipped_schema_has_golden_files() -> None:
    """Each case, and no file without its other half."""
    for schema_file in SCHEMA_FILES:
        files = {path.name for path in folder_of(schema_file).iterdir()}
        names = {name.partition(".")[0] for name in files}
        assert files == {f"{name}.{suffix}" for name in names for suffix in ("bin", "json")}
    newest = {path.stem for path in folder_of(CURRENT_SCHEMA).glob("*.bin")}
    assert newest == set(golden_fragments())


@pytest.mark.parametrize("path", BINARIES, ids=name_of)
def test_golden_bytes_decode_to_their_values(path: Path) -> None:
    """As text, so that 1, 1.0 and true are told apart."""
    expected = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert repr(as_json(decode(path.read_bytes()))) == repr(expected)


@pytest.mark.parametrize("path", sorted(folder_of(CURRENT_SCHEMA).glob("*.bin")), ids=name_of)
def test_the_newest_schema_still_writes_its_golden_bytes(path: Path) -> None:
    """Byte for byte: what is encoded does not drift between releases."""
    value = path.read_bytes()
    assert encode(decode(value)) == value
    assert encode(golden_fragments()[path.stem]) == value


@pytest.mark.parametrize("path", BINARIES, ids=name_of)
def test_golden_hashes_hold(path: Path) -> None:
    """The hash carried, ours made anew, the independent one and the pinned one."""
    carried = []
    for kind, event_id, record in snapshots_of(path):
        ids = [event_id] if record["bookmaker_id"] is None else [event_id, record["bookmaker_id"]]
        again = h1(kind.value, ids, record["captured_at"], record["markets"])
        assert decoded_hash(kind, event_id, record) == record["content_hash"] == again
        carried.append(again)
    assert carried == HASHES.get(name_of(path), [])


@pytest.mark.parametrize("path", BINARIES, ids=name_of)
def test_golden_snapshots_become_records(path: Path) -> None:
    """And encode to the same hash from there."""
    for kind, event_id, record in snapshots_of(path):
        snapshot = snapshot_from_record(kind, event_id, record)
        assert snapshot_part(snapshot).record == record


def test_new_golden_files_never_replace_old_ones(tmp_path: Path) -> None:
    """The script can be run twice."""
    (tmp_path / "betpawa.bin").write_bytes(b"old")
    write_golden_files(tmp_path)
    assert (tmp_path / "betpawa.bin").read_bytes() == b"old"
    assert not (tmp_path / "betpawa.json").exists()
    for name in golden_fragments().keys() - {"betpawa"}:
        ours = folder_of(CURRENT_SCHEMA) / f"{name}.json"
        assert (tmp_path / f"{name}.json").read_text("utf-8") == ours.read_text("utf-8")


if __name__ == "__main__":
    write_golden_files(folder_of(CURRENT_SCHEMA))
