"""Raw responses as a bookmaker's API would answer them, of a chosen size.

They tell the snapshot in the API's own words: nested, wordy, with ids, model
probabilities and times of their own, so that they compress like real ones (about
4 to 1 at 50 KB with zstd) and not like filler.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

from ...schemas.records import MarketWriteData

__all__ = ["EventInfo", "betpawa_response", "competitor_response"]

# Bytes as compact JSON, besides the names of markets and outcomes (measured).
BETPAWA_ENVELOPE, BETPAWA_MARKET, BETPAWA_PRICE = 480, 137, 145
COMPETITOR_ENVELOPE, COMPETITOR_MARKET, COMPETITOR_PRICE = 480, 125, 130

ID_STEP = 5_000_000  # ids of prices rise by up to this: other events take those between
UPDATED_MS = 40_000_000  # prices were last touched within this time (11 hours)

# Tells one market: (market, age of its odds, bytes there are) -> (entry, bytes taken).
_Tell = Callable[[MarketWriteData, int, int], tuple[dict[str, Any], int]]


@dataclass(frozen=True, slots=True)
class EventInfo:
    """What a response says about the event itself."""

    event_id: int
    home: str
    away: str
    competition: str
    region: str
    competition_id: str
    kick_off: datetime


def betpawa_response(
    event: EventInfo, markets: Sequence[MarketWriteData], at: datetime, size: int, first_id: int
) -> dict[str, Any]:
    """A response of about `size` bytes as compact JSON, at least its envelope (500 bytes).

    Once the markets are told, older odds follow as `history`. `first_id` is the
    first price's id; the same arguments give the same response.
    """
    rounds = _rounds(markets, size - BETPAWA_ENVELOPE, _betpawa_teller(at, first_id))
    response: dict[str, Any] = {
        "id": str(event.event_id),
        "name": f"{event.home} - {event.away}",
        "startTime": _stamp(event.kick_off),
        "category": {"id": "2", "name": "Football"},
        "region": {"id": event.competition_id[:3], "name": event.region},
        "competition": {"id": event.competition_id, "name": event.competition},
        "participants": [
            {"id": str(first_id % 90_000 + n), "name": name, "position": n}
            for n, name in enumerate((event.home, event.away), start=1)
        ],
        "totalMarketCount": len(markets),
        "updatedAt": _stamp(at),
        "markets": next(rounds, []),
    }
    history = [{"age": age, "markets": entries} for age, entries in enumerate(rounds, start=1)]
    if history:
        response["history"] = history
    return response


def competitor_response(
    event: EventInfo, markets: Sequence[MarketWriteData], at: datetime, size: int, first_id: int
) -> dict[str, Any]:
    """As `betpawa_response`, in the words of another API."""
    rounds = _rounds(markets, size - COMPETITOR_ENVELOPE, _competitor_teller(at, first_id))
    data: dict[str, Any] = {
        "eventId": f"sr:match:{first_id % 100_000_000}",
        "gameId": str(event.event_id % 100_000),
        "homeTeamName": event.home,
        "awayTeamName": event.away,
        "estimateStartTime": _milliseconds(event.kick_off),
        "status": 0,
        "matchStatus": "Not start",
        "sport": {
            "id": "sr:sport:1",
            "name": "Football",
            "category": {
                "name": event.region,
                "tournament": {
                    "id": f"sr:tournament:{event.competition_id}",
                    "name": event.competition,
                },
            },
        },
        "totalMarketSize": len(markets),
        "updateTime": _milliseconds(at),
        "markets": next(rounds, []),
    }
    data.update((f"marketsBefore{age}", entries) for age, entries in enumerate(rounds, start=1))
    return {"bizCode": 10000, "innerMsg": "", "message": "0#0", "isAvailable": True, "data": data}


def _rounds(
    markets: Sequence[MarketWriteData], room: int, tell: _Tell
) -> Iterator[list[dict[str, Any]]]:
    """Tells the markets over and over, ever older, until the bytes are used up."""
    age = 0
    while room > 0 and markets:
        entries = []
        for market in markets:
            entry, used = tell(market, age, room)
            entries.append(entry)
            room -= used
            if room <= 0:
                break
        yield entries
        age += 1


def _betpawa_teller(at: datetime, first_id: int) -> _Tell:
    random = Random(first_id).random  # noqa: S311 - prices, no secrets
    price_id, now = first_id, _milliseconds(at)

    def tell(market: MarketWriteData, age: int, room: int) -> tuple[dict[str, Any], int]:
        nonlocal price_id
        market_id, name = market.betpawa_market_id, market.betpawa_market_name
        used = BETPAWA_MARKET + len(name)
        prices = []
        for outcome, odds, active in _outcomes(market):
            chance = random()
            price_id += 1 + int(chance * ID_STEP)
            price = {
                "id": str(price_id),
                "name": outcome,
                "price": odds if age == 0 else round(odds * (1 + age / 50), 2),
                "probability": (0.94 + chance / 50) / odds,
                "suspended": not active,
                "updatedAt": now - int(chance * UPDATED_MS),
                "token": chance.hex()[4:17],
            }
            prices.append(price)
            used += BETPAWA_PRICE + len(outcome)
            if used >= room:
                break
        kind = {"id": market_id, "name": name, "tabs": market.market_groups}
        row = {"id": str(price_id + 1), "handicap": market.line, "prices": prices}
        return {"marketType": kind, "row": [row]}, used

    return tell


def _competitor_teller(at: datetime, first_id: int) -> _Tell:
    random = Random(first_id).random  # noqa: S311 - prices, no secrets
    price_id, now = first_id, _milliseconds(at)

    def tell(market: MarketWriteData, age: int, room: int) -> tuple[dict[str, Any], int]:
        nonlocal price_id
        name = market.betpawa_market_name
        used = COMPETITOR_MARKET + 2 * len(name)
        outcomes = []
        for outcome, odds, active in _outcomes(market):
            chance = random()
            price_id += 1 + int(chance * ID_STEP)
            price = {
                "id": str(price_id),
                "odds": str(odds if age == 0 else round(odds * (1 + age / 50), 2)),
                "probability": (0.94 + chance / 50) / odds,
                "isActive": 1 if active else 0,
                "desc": outcome,
                "changed": now - int(chance * UPDATED_MS),
                "token": chance.hex()[4:17],
            }
            outcomes.append(price)
            used += COMPETITOR_PRICE + len(outcome)
            if used >= room:
                break
        entry = {
            "id": market.betpawa_market_id,
            "specifier": "" if market.line is None else f"total={market.line}",
            "desc": name,
            "name": name,
            "status": 0,
            "group": (market.market_groups or ["other"])[-1],
            "outcomes": outcomes,
        }
        return entry, used

    return tell


def _outcomes(market: MarketWriteData) -> list[tuple[str, float, bool]]:
    outcomes = market.outcomes
    if isinstance(outcomes, dict):
        return [(name, one["odds"], one["is_active"]) for name, one in outcomes.items()]
    return [(one["name"], one["odds"], one["is_active"]) for one in outcomes]


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp()) * 1000


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
