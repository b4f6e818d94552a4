"""What a dead letter's cause means, in plain words, and what to do about it. Pure."""

from dataclasses import dataclass

__all__ = ["Explanation", "Facts", "explain"]


@dataclass(frozen=True)
class Facts:
    """What of a letter tells its cause."""

    id: int
    status: str
    reason: str
    sqlstate: str | None = None
    constraint: str | None = None
    field: str | None = None
    message: str = ""
    whole_record: bool = False
    has_log: bool = True
    damaged: bool = False
    unknown_schema: bool = False
    under_way: bool = False
    redrives: int = 0
    handled: str | None = None


@dataclass(frozen=True)
class Explanation:
    """What happened, why, and what to do: a step a line."""

    happened: str
    why: str
    steps: tuple[str, ...]


_EDIT = (
    "save it:      oddslog dlq show {id} --save letter.json",
    "mend it there: {field}",
    "try it:       oddslog dlq redrive {id} --edit letter.json --dry-run",
    "send it:      oddslog dlq redrive {id} --edit letter.json",
)
_OR_DISCARD = 'if it is not worth that: oddslog dlq discard {id} --why "..."'

# SQLSTATE: why PostgreSQL refused it.
_STATES = {
    "22001": "A text is longer than its column takes.",
    "22003": "A number is out of the range that its column can hold.",
    "22P02": "A JSON document is not what PostgreSQL takes for JSON.",
    "22P05": "A text has a character that PostgreSQL cannot hold (an escaped NUL).",
    "22021": "A text has a byte that PostgreSQL cannot hold (a NUL character).",
    "22008": "A time is out of the range that PostgreSQL can hold.",
    "23502": "A column that must have a value has none.",
    "23514": "A check of the table does not allow it.",
    "23P01": "An exclusion constraint of the table does not allow it beside another row.",
    "54000": "A row is too large for an index or a field of the table.",
    "54001": "A JSON document is nested deeper than PostgreSQL's parser goes.",
}


def explain(letter: Facts) -> Explanation:
    """The explanation of one letter."""
    made = _of_status(letter) or _of_reason(letter)
    names = {"id": letter.id, "field": letter.field or "what the message names"}
    return Explanation(made.happened, made.why, tuple(step.format(**names) for step in made.steps))


def _of_status(letter: Facts) -> Explanation | None:
    by = f" ({letter.handled})" if letter.handled else ""
    if letter.status == "written" and letter.reason != "missing_parent":
        return Explanation(
            "It is written by now.",
            "A replay came to its record again, and it could be written: what stood in its way"
            " was mended.",
            ("nothing is to be done",),
        )
    if letter.status == "written":
        return Explanation(
            "The sink has written it by now.",
            "It waited for its event, bookmaker or run, and that came.",
            ("nothing is to be done",),
        )
    if letter.status == "redriven":
        return Explanation(
            f"It was sent again and is written{by}.",
            "The sink marked it in the transaction that wrote it.",
            ("nothing is to be done",),
        )
    if letter.status == "discarded":
        return Explanation(
            f"It was discarded{by}.",
            "Somebody decided that it is not worth writing. It is still kept.",
            ("if that was wrong: oddslog dlq redrive {id} --force",),
        )
    if letter.under_way:
        return Explanation(
            f"It was sent again{by}, and the sink has not come to it yet.",
            "The record is in the topic, behind what the sink has read.",
            (
                "is the sink running, and how far behind is it? oddslog status",
                "look again when it has caught up: oddslog dlq show {id}",
            ),
        )
    return None


def _of_reason(letter: Facts) -> Explanation:
    if letter.reason == "missing_parent":
        return _missing_parent(letter)
    if letter.reason == "undecodable":
        return _undecodable(letter)
    if letter.reason == "conflict":
        return Explanation(
            "A snapshot with the same natural key and other content was written before it.",
            "Two snapshots say they are of the same event, bookmaker and moment. The first stays:"
            " the sink never overwrites. A scraper that stamps captured_at itself, or two of them,"
            " can make such a pair.",
            (
                "compare the two: oddslog dlq show {id}, and the row with its key in the tables",
                "if both are wanted, give this one another captured_at: --save it, change"
                " captured_at, then oddslog dlq redrive {id} --edit letter.json",
                "if the one in the tables is right: "
                'oddslog dlq discard {id} --why "the other is right"',
            ),
        )
    if letter.reason == "unknown_snapshot":
        return Explanation(
            "A confirmation names a snapshot that never came.",
            "Its snapshot was not written within the log's retention: it was never sent, or is a"
            " dead letter itself, or lies before this database's start.",
            (
                "is its snapshot among the dead letters (oddslog dlq list)? redrive that first",
                "when the snapshot is in the tables: oddslog dlq redrive {id}",
                'else nothing is missing but a time: oddslog dlq discard {id} --why "..."',
            ),
        )
    return _poison(letter)


def _missing_parent(letter: Facts) -> Explanation:
    named = letter.field or letter.constraint or "a foreign key"
    waiting = letter.status == "waiting"
    happened = (
        f"It waits for a row that it refers to ({named})."
        if waiting
        else f"A row that it refers to ({named}) did not come in time."
    )
    why = (
        f"{letter.message}. The scraper writes its events, bookmakers and runs itself; the log"
        " does not have them. After a restore they have to be restored too, with the same ids."
    )
    wait = (
        ("bring the row; the sink then writes the letter by itself within seconds",)
        if waiting
        else (
            "bring the row, then: oddslog dlq redrive {id}",
            "all of this reason at once: oddslog dlq redrive --reason missing_parent",
        )
    )
    return Explanation(happened, why, (*wait, "if the row will never come: " + _discarding()))


def _discarding() -> str:
    return 'oddslog dlq discard {id} --why "..."'


def _undecodable(letter: Facts) -> Explanation:
    if letter.damaged:
        return Explanation(
            "The record's bytes are not those that its producer sent.",
            "Its CRC-32 header does not agree with its value: a disk, a memory or a tool between"
            " changed it. What it says cannot be trusted, though it may decode.",
            (
                "look for the same scrape elsewhere; the original: oddslog dlq show {id}",
                "only if you have checked what it says: oddslog dlq redrive {id} --force",
                "then look at the brokers' disks: such a thing does not stay alone",
                _OR_DISCARD,
            ),
        )
    if letter.unknown_schema:
        return Explanation(
            "The record has an Avro schema that this version does not know.",
            f"{letter.message}. A newer scraper wrote it, or another program.",
            (
                "update the sink to the scraper's version",
                "then: oddslog dlq redrive --reason undecodable",
                "if another program writes into this topic, give it a topic of its own",
            ),
        )
    return Explanation(
        "The record's bytes are no fragment of oddslog.",
        f"{letter.message}. Another program writes into the topic, or the bytes were cut.",
        (
            "see where they break: oddslog dlq show {id}; keep them: --raw FILE",
            "the record's key and headers tell who wrote it",
            _OR_DISCARD,
        ),
    )


def _poison(letter: Facts) -> Explanation:
    where = f" ({letter.field})" if letter.field else ""
    why = _STATES.get(letter.sqlstate or "")
    if why is None and letter.sqlstate is not None:
        why = f"PostgreSQL refused it with SQLSTATE {letter.sqlstate}."
    if letter.constraint:
        why = f"{why or ''} The constraint is {letter.constraint}.".strip()
    why = f"{why} {letter.message}." if why else f"{letter.message}."
    again = (
        (f"it was sent again {letter.redrives} times and failed: look before you send it again",)
        if letter.redrives
        else ()
    )
    tables = (
        "or the table is too narrow: widen the column or drop the constraint, restart the sink,"
        " then: oddslog dlq redrive {id}",
    )
    if not letter.has_log and letter.whole_record:
        return Explanation(
            "A snapshot could not even be encoded; it is kept as Python shows it.",
            why,
            ("mend the scraper and hand the snapshot over again", _OR_DISCARD),
        )
    return Explanation(
        f"A value cannot be stored{where}.", why, (*again, *_EDIT, *tables, _OR_DISCARD)
    )
