"""Which faults happen when: by seed, every kind, within its bounds."""

import re
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from oddslog.deploy.torture.cast import REBALANCE_TIMEOUT_SECONDS
from oddslog.deploy.torture.schedule import (
    FEEDER_POINTS,
    SINK_POINTS,
    Fault,
    Step,
    Surroundings,
    certain,
    pace,
    steps,
)

ROOT = Path(__file__).parents[2]
EVERYTHING = Surroundings()
TEN_MINUTES = 540


def first(count: int, seed: int = 1, surroundings: Surroundings = EVERYTHING) -> list[Step]:
    """The first steps of a seed."""
    return list(islice(steps(seed, surroundings), count))


def test_the_same_seed_gives_the_same_steps() -> None:
    """So that a finding can be looked for again."""
    assert first(300) == first(300)
    assert first(20, seed=1) != first(20, seed=2)


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_occurs_in_ten_minutes(seed: int) -> None:
    """First of all each once, in half a minute; then as often as it is in the deck."""
    counts = Counter(step.fault for step in first(TEN_MINUTES, seed))
    assert set(counts) == set(Fault)
    assert min(counts.values()) >= 5
    assert {step.fault for step in first(len(Fault), seed)} == set(Fault)
    decks = first(len(Fault) + 54, seed)[len(Fault) :]
    assert {step.fault for step in decks} == set(Fault)


def test_a_busy_machine_is_given_time() -> None:
    """But never so much that not every kind comes."""
    assert pace(4.0, 180.0) == 1.0
    assert pace(16.0, 600.0) == 2.0
    assert pace(60.0, 6.0) == 1.0
    slowest = pace(60.0, 180.0)
    for seed in range(20):
        pauses = [step.pause_seconds * slowest for step in first(len(Fault), seed)]
        assert sum(pauses) < 180.0 - 20.0


def test_what_is_to_happen_for_certain_is_no_rare_thing() -> None:
    """The first coming to a point that each process comes to."""
    for fault in Fault:
        step = certain(1, fault, EVERYTHING)
        assert (step.fault, step.count) == (fault, 1)
        assert step == certain(1, fault, EVERYTHING)
    assert certain(1, Fault.FEEDER_KILLED_AT_POINT, EVERYTHING).detail == "ingest.before_send"
    assert certain(1, Fault.SINK_FROZEN_AT_POINT, EVERYTHING).detail == "sink.before_copy"


def test_ten_minutes_are_hundreds_of_faults() -> None:
    """The pauses add up to that."""
    assert 540 < sum(step.pause_seconds for step in first(TEN_MINUTES)) < 660


def test_every_sink_and_every_detail_is_hit() -> None:
    """Kill points, tables, signals; the feeder has its own network, too."""
    all_steps = first(4 * TEN_MINUTES)
    assert {step.seat for step in all_steps} == {-1, 0, 1, 2}
    details = {fault: {s.detail for s in all_steps if s.fault is fault} for fault in Fault}
    assert details[Fault.SINK_KILLED_AT_POINT] == set(SINK_POINTS)
    assert details[Fault.FEEDER_KILLED_AT_POINT] == set(FEEDER_POINTS)
    assert details[Fault.KAFKA_RESTARTED] == {"SIGKILL", "SIGTERM"}
    assert details[Fault.POSTGRES_RESTARTED] == {"SIGKILL", "SIGQUIT", "SIGINT", "SIGTERM"}
    assert details[Fault.SINK_FROZEN_LONG] == {"PGCOPY", "COMMIT;"}
    assert len(details[Fault.TABLE_LOCKED]) == 4
    assert details[Fault.KAFKA_CUT] == {""}
    assert {s.seat for s in all_steps if s.fault is Fault.KAFKA_STALLED} == {-1, 0, 1, 2}
    assert -1 not in {s.seat for s in all_steps if s.fault is Fault.POSTGRES_STALLED}
    assert {s.seat for s in all_steps if s.fault is Fault.FEEDER_KILLED} == {-1}


def test_a_frozen_process_wakes_up_while_the_others_wait_for_its_locks() -> None:
    """Locks are waited for 30 s."""
    frozen = [s for s in first(TEN_MINUTES) if s.fault in (Fault.SINK_FROZEN, Fault.FEEDER_FROZEN)]
    assert all(3 <= step.seconds <= 8 for step in frozen)


def test_some_stand_still_until_they_are_zombies() -> None:
    """Longer than the torture's rebalance time-out, with what the others need to notice."""
    frozen = [s for s in first(TEN_MINUTES) if s.fault is Fault.SINK_FROZEN_LONG]
    assert len(frozen) > 20
    assert all(2 * REBALANCE_TIMEOUT_SECONDS <= step.seconds <= 30 for step in frozen)


def test_what_is_not_ours_is_left_alone() -> None:
    """Servers of someone else are not restarted; without a proxy Kafka is not cut."""
    given = Surroundings(sinks=2, kafka_proxy=False, own_servers=False)
    kinds = {step.fault for step in first(TEN_MINUTES, surroundings=given)}
    assert not {kind for kind in kinds if kind.value.startswith("kafka")}
    assert Fault.POSTGRES_RESTARTED not in kinds
    assert set(Fault) - kinds == given.left_out()
    assert Fault.POSTGRES_CUT in kinds
    assert {step.seat for step in first(TEN_MINUTES, surroundings=given)} == {-1, 0, 1}


def test_kill_points_are_those_of_the_code() -> None:
    """One that nobody comes to would never kill."""
    source = "".join(
        path.read_text("utf-8")
        for part in ("ingest", "sink")
        for path in (ROOT / part).rglob("*.py")
    )
    points = set(re.findall(r'reached\("([a-z_.]+)"\)', source))
    assert {*SINK_POINTS, *FEEDER_POINTS} <= points
