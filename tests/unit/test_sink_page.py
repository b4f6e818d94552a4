"""The page: shows what is there, escapes everything, takes nothing from outside."""

import re
from html.parser import HTMLParser
from typing import Any

from oddslog.sink.page import render_page

GATHERED: dict[str, Any] = {
    "version": "1.2.3",
    "at": "2026-03-01T12:00:00+00:00",
    "ready": True,
    "problems": [],
    "sink": {"totals": {"records": 1234567, "retries": 0}, "retrying": {}, "partitions": []},
    "overview": {
        "topic": "odds.writes",
        "group": "oddslog-sink",
        "lag_records": 1200,
        "lag_seconds": 90.5,
        "database_bytes": 5 * 1024 * 1024,
        "partitions": [{"partition": 0, "log_end": 7, "lag_records": 1200, "unasked": None}],
        "dead_letters": [{"status": "dead", "reason": "poison", "letters": 3}],
        "something_new": [{"of_status": "shows up"}],
        "another": {"oldest_seconds": 7200.0},
        "errors": {},
    },
}


class Seen(HTMLParser):
    """The text, tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())


def test_numbers_are_for_people() -> None:
    """With their units, and thousands apart."""
    texts = Seen(render_page(GATHERED, "n")).texts
    for text in ("1,200", "90.5 s", "5.0 MiB", "1,234,567", "2.0 h", "ready"):
        assert text in texts
    assert "2026-03-01 12:00:00 UTC" in " ".join(texts)


def test_what_status_learns_shows_up_by_itself() -> None:
    """A table for a list of objects, facts for an object."""
    texts = Seen(render_page(GATHERED, "n")).texts
    for text in ("Something new", "of status", "shows up", "Another", "oldest"):
        assert text in texts
    assert "unasked" not in texts  # nobody knows anything of it


def test_every_value_is_escaped() -> None:
    """Names of topics, messages of servers, dead letters: none becomes markup."""
    evil = "<script>alert('x')</script>\"'&"
    gathered = {
        **GATHERED,
        "problems": [evil],
        "version": evil,
        "overview_error": evil,
        "sink": {"totals": {evil: 1}, "retrying": {evil: evil}, "partitions": [{evil: evil}]},
        "overview": {
            "topic": evil,
            "errors": {evil: evil},
            "members": [{evil: evil}],
            evil: evil,
            "list": [evil],
            "facts": {evil: {evil: [evil]}},
        },
    }
    page = render_page(gathered, "n")
    assert "<script>alert" not in page
    assert page.count("<script") == 1
    assert {name for _, name, value in Seen(page).attributes if "alert" in value} == set()


def test_it_takes_nothing_from_outside() -> None:
    """No address but its own paths; scripts and styles carry the nonce; no style attribute."""
    page = render_page(GATHERED, "the-nonce")
    seen = Seen(page)
    assert not re.search(r"https?://|//[a-z]", page)
    links = {value for _, name, value in seen.attributes if name in ("href", "src")}
    assert links == {"data:,", "/metrics", "/readyz", "/livez", "/status.json"}
    nonces = [(tag, value) for tag, name, value in seen.attributes if name == "nonce"]
    assert nonces == [("style", "the-nonce"), ("script", "the-nonce")]
    assert not [name for _, name, _ in seen.attributes if name == "style" or name[:2] == "on"]


def test_it_renews_itself_without_javascript() -> None:
    """By a refresh that only a browser without scripts sees."""
    page = render_page(GATHERED, "n")
    assert '<noscript><meta http-equiv="refresh"' in page


def test_a_server_that_is_away_is_said_at_the_top() -> None:
    """And this member's own view stands in for what cannot be asked."""
    own = {"partition": 0, "lag_records": 77}
    gathered = {
        **GATHERED,
        "ready": False,
        "problems": ["PostgreSQL has not answered for 9 s"],
        "sink": {"partitions": [own], "totals": {}, "retrying": {"sweep": "3 time(s)"}},
        "overview": {"lag_records": None, "errors": {"PostgreSQL": "does not answer"}},
    }
    texts = Seen(render_page(gathered, "n")).texts
    assert texts.index("PostgreSQL has not answered for 9 s") < texts.index("lag, records")
    for text in ("not ready", "PostgreSQL:", "lag of this member", "77", "sweep fails"):
        assert text in texts


def test_before_anything_is_known_it_says_so() -> None:
    """No traceback, no empty page."""
    page = render_page({"ready": False, "problems": ["the sink is starting"]}, "n")
    assert "the sink is starting" in page
    assert "Asking the servers" in page


def test_only_what_is_dead_is_red() -> None:
    """Letters that were redriven or discarded are history; so is what nobody has heard of."""
    letters = [{"status": status, "reason": "poison", "letters": 3} for status in ("redriven",)]
    calm = render_page({"overview": {"dead_letters": letters, "oldest_waiting_at": None}}, "n")
    assert '<div class="card "><dt>dead letters</dt><dd>0</dd>' in calm
    assert "oldest waiting" not in calm
    letters.append({"status": "dead", "reason": "poison", "letters": 2})
    red = render_page({"overview": {"dead_letters": letters}}, "n")
    assert '<div class="card bad"><dt>dead letters</dt><dd>2</dd>' in red
