"""The simulator: deterministic, shaped like the real load, honest about sizes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import cramjam
import pytest

from oddslog.ingest.feeds import SimulateSettings, simulate
from oddslog.ingest.feeds.goals import MATCH_TYPES
from oddslog.ingest.feeds.kinds import catalogue
from oddslog.ingest.feeds.pool import STEPS, MarketPool
from oddslog.schemas.errors import ConfigurationError
from oddslog.schemas.records import (
    CompetitorSnapshotWriteData,
    MarketWriteData,
    SnapshotWriteData,
    WriteBatch,
)

STARTED = datetime(2026, 1, 31, 23, 59, 30, tzinfo=UTC)

Snapshot = SnapshotWriteData | CompetitorSnapshotWriteData


def settings(**options: Any) -> SimulateSettings:
    """A small simulation."""
    return SimulateSettings(**{"events": 7, "batch_events": 3, "started_at": STARTED, **options})


def snapshots(batches: Iterable[WriteBatch]) -> list[Snapshot]:
    """All new snapshots, in order."""
    found: list[Snapshot] = []
    for batch in batches:
        found += batch.changed_betpawa
        found += batch.changed_competitor
    return found


def key(snapshot: Snapshot) -> tuple[str, int]:
    """The natural key but for its time."""
    if isinstance(snapshot, SnapshotWriteData):
        return "betpawa", snapshot.event_id
    return "competitor", snapshot.competitor_event_id


def test_a_full_cycle_has_the_shape_of_the_real_load() -> None:
    """1,300 events are 26 batches, 3,900 snapshots and 442,000 markets."""
    batches = list(simulate(SimulateSettings(cycles=1, raw_response_bytes=0, started_at=STARTED)))
    found = snapshots(batches)
    assert len(batches) == 26
    assert [b.batch_index for b in batches] == list(range(26))
    assert {b.batch_count for b in batches} == {26}
    assert sum(len(b.changed_betpawa) for b in batches) == 1300
    assert sum(len(b.changed_competitor) for b in batches) == 2600
    assert sum(len(one.markets) for one in found) == 442_000
    assert {len(one.markets) for b in batches for one in b.changed_betpawa} == {170}
    assert {len(one.markets) for one in found} == {170, 100, 70}
    assert len({one.captured_at for one in found}) == 3900
    assert len({key(one) for one in found}) == 3900


def test_a_later_cycle_changes_its_share_and_confirms_the_rest() -> None:
    """15 % of 3,900 snapshots are 585, give or take one; nothing is left out."""
    batches = list(simulate(SimulateSettings(raw_response_bytes=0, started_at=STARTED)))
    second = batches[26:]
    changed = snapshots(second)
    confirmed = sum(len(b.unchanged_betpawa) + len(b.unchanged_competitor) for b in second)
    assert abs(len(changed) - 585) <= 1
    assert len(changed) + confirmed == 3900
    assert {b.confirmed_at for b in second} == {STARTED + timedelta(seconds=60)}


def test_confirmations_name_the_latest_snapshot_of_their_key() -> None:
    """Over many cycles each key is seen once a cycle, at a time that was captured last."""
    latest: dict[tuple[str, int], datetime | None] = {}
    for batch in simulate(settings(cycles=6, changed_share=0.4, raw_response_bytes=0)):
        for one in snapshots([batch]):
            before, at = latest.get(key(one)), one.captured_at
            assert at is not None
            assert before is None or at > before
            latest[key(one)] = at
        for same in batch.unchanged_betpawa:
            assert same.bookmaker_id == 1
            assert latest["betpawa", same.event_id] == same.captured_at
        for other in batch.unchanged_competitor:
            assert latest["competitor", other.competitor_event_id] == other.captured_at
        seen = len(snapshots([batch])) + len(batch.unchanged_betpawa)
        assert seen + len(batch.unchanged_competitor) == (9 if batch.batch_index < 2 else 3)
    assert len(latest) == 21


def test_a_changed_snapshot_differs_from_the_one_before() -> None:
    """Odds drift, some markets are suspended or removed, most stay."""
    before: dict[tuple[str, int], Snapshot] = {}
    suspended = removed = 0
    for one in snapshots(simulate(settings(events=30, cycles=3, changed_share=1.0))):
        old = before.get(key(one))
        if old is not None:
            assert one.markets[0] != old.markets[0]
            same = sum(market in old.markets for market in one.markets)
            assert same > len(one.markets) / 3
            removed += len(one.markets) < len(old.markets)
            suspended += any(not is_active(market) for market in one.markets)
        before[key(one)] = one
    assert suspended
    assert removed


def is_active(market: MarketWriteData) -> bool:
    """Whether all outcomes take bets."""
    outcomes = market.outcomes
    members = outcomes.values() if isinstance(outcomes, dict) else outcomes
    return all(outcome["is_active"] for outcome in members)


def test_the_first_market_moves_on_every_step() -> None:
    """The 1X2's odds differ from step to step for any match, so a move is always seen."""
    for seed in range(3):
        pool = MarketPool(seed)
        for match_type in range(len(MATCH_TYPES)):
            row = pool.rows(match_type)[0]
            odds = [str(pool[row + step].outcomes) for step in range(STEPS)]
            assert len(set(odds)) == STEPS


def test_the_share_of_changes_has_bounds_that_hold() -> None:
    """0 changes nothing, 1 everything."""
    none = list(simulate(settings(changed_share=0, raw_response_bytes=0)))
    every = list(simulate(settings(changed_share=1, raw_response_bytes=0)))
    assert len(snapshots(none)) == 21
    assert len(snapshots(every)) == 42
    assert not any(b.unchanged_betpawa or b.unchanged_competitor for b in every)


def test_the_same_settings_give_equal_batches() -> None:
    """Field for field, raw responses included; another seed gives others."""
    first, again = list(simulate(settings())), list(simulate(settings()))
    assert first == again
    assert first != list(simulate(settings(seed=2)))


def test_batches_do_not_depend_on_the_hash_seed() -> None:
    """Two processes with different PYTHONHASHSEED make the same bytes."""
    program = (
        "import datetime, hashlib\n"
        "from oddslog.ingest.feeds import SimulateSettings, batch_to_json, simulate\n"
        "s = SimulateSettings(events=4, started_at=datetime.datetime(2026, 1, 1, "
        "tzinfo=datetime.UTC))\n"
        "text = ''.join(map(batch_to_json, simulate(s)))\n"
        "print(hashlib.sha256(text.encode()).hexdigest())\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_the_data_of_an_event_do_not_depend_on_batch_events() -> None:
    """Nor on how many events come after it."""
    small = snapshots(simulate(settings(batch_events=1, cycles=3)))
    large = snapshots(simulate(settings(batch_events=50, cycles=3)))
    more = snapshots(simulate(settings(events=20, batch_events=50, cycles=3)))
    assert sorted(map(repr, small)) == sorted(map(repr, large))
    assert {repr(one) for one in small} < {repr(one) for one in more}


def test_ids_runs_and_times_follow_the_settings() -> None:
    """Event N has the competitor events 2N-1 and 2N; runs count up by cycle."""
    east = timezone(timedelta(hours=2))
    made = settings(
        first_event_id=100, first_run_id=9, cycle_seconds=30, started_at=STARTED.astimezone(east)
    )
    batches = list(simulate(made))
    first = batches[:3]
    assert [one.event_id for b in first for one in b.changed_betpawa] == list(range(100, 107))
    assert [one.competitor_event_id for b in first for one in b.changed_competitor] == list(
        range(199, 213)
    )
    for batch in batches:
        cycle = batches.index(batch) // 3
        assert batch.scrape_run_id == 9 + cycle
        assert {one.scrape_run_id for one in snapshots([batch])} <= {9 + cycle}
        start = STARTED + timedelta(seconds=30 * cycle)
        assert batch.confirmed_at == start
        for one in snapshots([batch]):
            assert one.captured_at is not None
            assert start <= one.captured_at < start + timedelta(seconds=30)
    assert {b.scrape_run_id for b in simulate(settings())} == {None}


def test_there_are_many_kinds_of_market() -> None:
    """Lines, handicaps, groups, lists and dicts of 2 to 30 outcomes, names beyond ASCII."""
    found = snapshots(simulate(settings(events=40, cycles=1)))
    markets = [market for one in found for market in one.markets]
    kinds = {(market.betpawa_market_id, market.betpawa_market_name) for market in markets}
    counts = {len(market.outcomes) for market in markets}
    assert len({name for _, name in kinds}) >= 40
    assert min(counts) == 2
    assert 24 <= max(counts) <= 30
    assert {type(market.outcomes) for market in markets} == {list, dict}
    assert len({market.line for market in markets}) > 20
    assert {market.handicap_type for market in markets} == {None, "ASIAN", "EUROPEAN"}
    assert all(
        (market.handicap_home is None) is (market.handicap_away is None) for market in markets
    )
    assert all(market.market_groups for market in markets)
    outcomes = [one for m in markets if isinstance(m.outcomes, list) for one in m.outcomes]
    assert any(not one["name"].isascii() for one in outcomes)
    assert min(one["odds"] for one in outcomes) >= 1.01
    assert max(one["odds"] for one in outcomes) <= 1001


def test_market_rows_of_a_snapshot_are_distinct() -> None:
    """No two markets of a snapshot have the same id and line."""
    assert len({(slot.market_id, slot.line) for slot in catalogue()}) == 170


def test_a_match_has_odds_that_fit_each_other() -> None:
    """The 1X2's probabilities sum to a bookmaker's margin, not to nonsense."""
    for one in snapshots(simulate(settings(events=30, cycles=1))):
        outcomes = one.markets[0].outcomes
        assert isinstance(outcomes, list)
        assert 1.0 < sum(1 / outcome["odds"] for outcome in outcomes) < 1.15


def compact(document: object) -> bytes:
    """As a bookmaker sends it."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.parametrize("size", [2_048, 10_240, 51_200, 204_800])
def test_raw_responses_have_the_size_asked_for(size: int) -> None:
    """Each within a tenth."""
    made = snapshots(simulate(settings(events=10, cycles=1, raw_response_bytes=size)))
    for one in made:
        assert size * 0.9 < len(compact(one.raw_response)) < size * 1.1


def test_raw_responses_can_be_left_out() -> None:
    """0 bytes is none; a byte is as little as there is."""
    assert {one.raw_response for one in snapshots(simulate(settings(raw_response_bytes=0)))} == {
        None
    }
    for one in snapshots(simulate(settings(raw_response_bytes=1, cycles=1))):
        assert 300 < len(compact(one.raw_response)) < 600


@pytest.mark.parametrize(("size", "low", "high"), [(2_048, 2.0, 4.0), (51_200, 3.5, 5.5)])
def test_raw_responses_compress_like_real_json(size: int, low: float, high: float) -> None:
    """About 4 to 1 with zstd level 3 at 50 KB; 2 KB alone have less to repeat."""
    for one in snapshots(simulate(settings(events=10, cycles=1, raw_response_bytes=size))):
        text = compact(one.raw_response)
        assert low < len(text) / len(bytes(cramjam.zstd.compress(text, 3))) < high


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("events", 0, "at least 1"),
        ("events", 2.0, "whole number"),
        ("events", True, "whole number"),
        ("cycles", 0, "at least 1"),
        ("changed_share", 1.5, "from 0 to 1"),
        ("changed_share", -0.1, "from 0 to 1"),
        ("changed_share", float("nan"), "must be a number"),
        ("raw_response_bytes", -1, "at least 0"),
        ("seed", -1, "at least 0"),
        ("batch_events", 0, "at least 1"),
        ("cycle_seconds", 0, "from 1e-06"),
        ("cycle_seconds", 1e-4, "at least 0.000231 for 7 events"),
        ("first_event_id", 0, "at least 1"),
        ("first_event_id", 2**30, "the highest is 2147483647"),
        ("first_run_id", 0, "at least 1"),
        ("first_run_id", 2**31 - 1, "the highest is 2147483647"),
        ("started_at", datetime(2026, 1, 1), "time zone"),  # noqa: DTZ001 - the point
        ("started_at", "2026-01-01", "time zone"),
        ("started_at", datetime(9999, 12, 31, tzinfo=UTC), "year 9999"),
    ],
)
def test_an_option_out_of_bounds_is_named(option: str, value: object, problem: str) -> None:
    """One line that begins with the option."""
    with pytest.raises(ConfigurationError, match=problem) as caught:
        settings(**{option: value})
    assert str(caught.value).startswith(f"{option}: ")
    assert "\n" not in str(caught.value)
