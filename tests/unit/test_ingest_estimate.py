"""What a batch weighs: cheap, bounded, growing with what is in it."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from oddslog.ingest.estimate import batch_details, estimate_steps
from oddslog.schemas.records import CompetitorSnapshotKey, SnapshotKey, WriteBatch
from tests.unit.test_ingest_builders import NOON, batch, betpawa, competitor

documents = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
).filter(lambda document: isinstance(document, (dict, list)))


def weight(weighed: WriteBatch) -> int:
    """The estimate."""
    return sum(estimate_steps(weighed))


@given(documents)
def test_it_grows_with_each_member(raw: Any) -> None:
    """A snapshot, a market, a raw response, a confirmation, an id: each adds."""
    base = batch(betpawa=[betpawa(1)])
    more = [
        replace(base, changed_betpawa=(betpawa(1, markets=3),)),
        replace(base, changed_betpawa=(betpawa(1, raw=raw),)),
        replace(base, changed_betpawa=(betpawa(1), betpawa(2))),
        replace(base, changed_competitor=(competitor(1),)),
        replace(base, unchanged_betpawa_ids=(1,)),
        replace(base, unchanged_competitor_ids=(1,)),
        replace(base, unchanged_betpawa=(SnapshotKey(1, 1, NOON),)),
        replace(base, unchanged_competitor=(CompetitorSnapshotKey(1, NOON),)),
    ]
    assert all(weight(larger) > weight(base) for larger in more)


@given(documents, st.integers(2, 9))
def test_a_raw_response_repeated_weighs_as_often(raw: Any, times: int) -> None:
    """Lists are told by their length, without a walk."""
    one = weight(batch(betpawa=[betpawa(1, raw=[raw])]))
    none = weight(batch(betpawa=[betpawa(1)]))
    many = weight(batch(betpawa=[betpawa(1, raw=[raw] * times)]))
    assert many - none == times * (one - none)


def test_it_ends_where_a_document_does_not() -> None:
    """A document that holds itself, which is no JSON, is found out when it is encoded."""
    endless: dict[str, Any] = {}
    endless.update({f"{number}": endless for number in range(40)})
    assert weight(batch(betpawa=[betpawa(1, raw=endless)])) > 0


def test_it_is_in_the_order_of_the_encoded_size() -> None:
    """Within a factor of two for raw responses as scrapers have them."""
    raw = {
        "event": {"id": 17, "name": "Arsenal - Chelsea"},
        "markets": [
            {"id": number, "name": "Total", "prices": [{"name": "Over", "price": 1.9}] * 3}
            for number in range(170)
        ],
    }
    size = len(str(raw))
    without = weight(batch(betpawa=[betpawa(1)]))
    assert size / 2 < weight(batch(betpawa=[betpawa(1, raw=raw)])) - without < size * 2


def test_details_name_every_event_and_id() -> None:
    """What the log line of a failed batch needs."""
    details = batch_details(
        batch(
            betpawa=[betpawa(1), betpawa(1)],
            competitor=[competitor(2)],
            betpawa_ids=[3],
            competitor_ids=[4],
            unchanged_betpawa=(SnapshotKey(5, 1, NOON),),
            unchanged_competitor=(CompetitorSnapshotKey(6, NOON),),
            confirmed_at=NOON,
        )
    )
    assert details["event_ids"] == [1]
    assert details["competitor_event_ids"] == [2]
    assert details["unchanged_betpawa_ids"] == [3]
    assert details["unchanged_competitor_ids"] == [4]
    assert details["confirmed_event_ids"] == [5]
    assert details["confirmed_competitor_event_ids"] == [6]
    assert (details["scrape_run_id"], details["batch_index"], details["markets"]) == (7, 0, 6)
    assert details["confirmed_at"] == NOON.isoformat()
