"""What is to be said of PostgreSQL: server, rights, tables, sequences. Pure."""

from collections.abc import Mapping

from ...sink.migrate import VERSION_TABLE
from ...sink.tables import LOG_TABLES, PARENT_TABLES
from ..words import duration_words
from .database import RIGHTS, DatabaseFacts
from .finding import Finding, fail, ok, warn

__all__ = ["NEEDED_RIGHTS", "judge_database"]

# Multiranges (scrape runs), and `round(extract(...), 1)` of the fence.
_OLDEST_VERSION = 140000
_CLOCK_SECONDS = 2.0
# One member's pool at its largest.
_CONNECTIONS = 6

_WRITTEN = ("SELECT", "INSERT", "UPDATE")
# What the sink's statements need; tables of ours that are not here: all four.
NEEDED_RIGHTS: Mapping[str, tuple[str, ...]] = {
    "odds_snapshots": _WRITTEN,
    "competitor_odds_snapshots": _WRITTEN,
    "market_odds": ("INSERT",),
    "competitor_market_odds": ("INSERT",),
    "oddslog_logs": _WRITTEN,
    "oddslog_ledger": _WRITTEN,
    "oddslog_meta": RIGHTS,
    "oddslog_pending_confirmations": RIGHTS,
    "oddslog_dead_letters": RIGHTS,
    "oddslog_run_batches": RIGHTS,
    VERSION_TABLE: ("SELECT",),
}
_MARKETS = ("market_odds", "competitor_market_odds")


def judge_database(facts: DatabaseFacts) -> list[Finding]:
    """All but the positions, which take the log too."""
    findings = [_server(facts), _writable(facts), _safe(facts), _connections(facts), _clock(facts)]
    migrated = _migrated(facts)
    findings.append(migrated)
    if facts.rights:
        findings.append(_rights(facts))
    if facts.migrated:
        findings += [_sequences(facts), _parents(facts)]
    if facts.overdue:
        findings.append(_overdue(facts))
    return findings


def _server(facts: DatabaseFacts) -> Finding:
    if facts.version_number < _OLDEST_VERSION:
        return fail(
            "PostgreSQL",
            f"version {facts.version} is too old",
            f"Use version {_OLDEST_VERSION // 10000} or newer",
        )
    return ok("PostgreSQL", f"version {facts.version}, {facts.place}")


def _writable(facts: DatabaseFacts) -> Finding:
    if facts.in_recovery:
        return fail(
            "writable",
            "this server is a standby, or is recovering: the sink waits for as long",
            "Name the primary: ODDSLOG_DATABASE_URL",
        )
    if facts.settings.get("transaction_read_only") == "on":
        return fail(
            "writable",
            "transactions of this user are read-only: the sink waits for as long",
            "Mend default_transaction_read_only of the server, the database or the role"
            f" {facts.role}",
        )
    return ok("writable", "transactions may write")


def _safe(facts: DatabaseFacts) -> Finding:
    off = [name for name in ("fsync", "full_page_writes") if facts.settings.get(name) == "off"]
    if off:
        return warn(
            "crash safety",
            f"{' and '.join(off)} off: a crash of the machine can ruin the database",
            "Turn it on, and restart PostgreSQL",
        )
    return ok("crash safety", "fsync and full_page_writes are on")


def _connections(facts: DatabaseFacts) -> Finding:
    free = facts.connections_free
    says = f"{max(0, free)} free for role {facts.role}; a sink takes up to {_CONNECTIONS}"
    do = "Raise max_connections (or the role's or database's CONNECTION LIMIT), or end idle ones"
    if free < 1:
        return fail("connections", says, do)
    return warn("connections", says, do) if free < _CONNECTIONS else ok("connections", says)


def _clock(facts: DatabaseFacts) -> Finding:
    off, unsure = facts.clock_ahead_seconds, facts.clock_unsure_seconds
    way = "ahead of" if off > 0 else "behind"
    if abs(off) - unsure > _CLOCK_SECONDS:
        return warn(
            "clock",
            f"PostgreSQL's is {duration_words(abs(off))} {way} this machine's",
            "Set both by NTP",
        )
    return ok("clock", f"PostgreSQL's is within {duration_words(abs(off) + unsure)} of ours")


def _migrated(facts: DatabaseFacts) -> Finding:
    if facts.schema_usage is None:
        return fail("tables", f'schema "{facts.schema}" is not there', "Run: oddslog migrate")
    if not facts.schema_usage:
        return fail(
            "tables",
            f'role {facts.role} lacks USAGE on schema "{facts.schema}"',
            f'Run: GRANT USAGE ON SCHEMA "{facts.schema}" TO "{facts.role}"',
        )
    if facts.migrated and facts.revision == facts.head:
        return ok("tables", f"at revision {facts.revision}, as this version needs")
    if facts.migrated:
        said = f"at revision {facts.revision}, newer than this version's {facts.head}"
        return ok("tables", f"{said}, which may still use them")
    if VERSION_TABLE in facts.rights and "SELECT" not in facts.rights[VERSION_TABLE]:
        return fail(
            "tables",
            f"role {facts.role} may not read {VERSION_TABLE}",
            f'Run: GRANT SELECT ON {VERSION_TABLE} TO "{facts.role}"',
        )
    if facts.revision is None:
        return fail("tables", "the database is not migrated", "Run: oddslog migrate")
    if facts.revision == facts.head:
        return fail(
            "tables",
            f"{', '.join(sorted(facts.missing))} not there, which revision {facts.revision} has",
            "Restore it from a backup: somebody dropped it",
        )
    return fail(
        "tables",
        f"at revision {facts.revision}, this version needs {facts.head}",
        "Run: oddslog migrate (with the newer version of oddslog, where two are in use)",
    )


def _rights(facts: DatabaseFacts) -> Finding:
    grants = [
        f'GRANT {", ".join(missing)} ON "{facts.schema}".{table} TO "{facts.role}"'
        for table, held in sorted(facts.rights.items())
        if (missing := [right for right in _needed(table) if right not in held])
    ]
    grants += [
        f'GRANT USAGE ON SEQUENCE "{facts.schema}".{one.name} TO "{facts.role}"'
        for one in facts.sequences
        if not one.usable
    ]
    if grants:
        return fail("rights", f"role {facts.role} lacks {len(grants)}", f"Run: {'; '.join(grants)}")
    unread = [table for table in _MARKETS if "SELECT" not in facts.rights.get(table, ("SELECT",))]
    if unread:
        return warn(
            "rights",
            f"enough for the sink; verify needs to read {' and '.join(unread)}",
            f'Run: GRANT SELECT ON {", ".join(unread)} TO "{facts.role}"',
        )
    if facts.superuser:
        return ok("rights", f"role {facts.role} is a superuser: more than the sink needs")
    return ok("rights", f"role {facts.role} has what the sink needs")


def _needed(table: str) -> tuple[str, ...]:
    if table in PARENT_TABLES:
        return ("SELECT",)
    return NEEDED_RIGHTS.get(table, RIGHTS if table in LOG_TABLES else ())


def _sequences(facts: DatabaseFacts) -> Finding:
    behind = [
        one
        for one in facts.sequences
        if one.max_id is not None and one.next_value is not None and one.next_value <= one.max_id
    ]
    if behind:
        mends = "; ".join(
            f"SELECT setval('{one.name}', (SELECT max({one.column}) FROM {one.table}))"  # noqa: S608 - words
            for one in behind
        )
        names = ", ".join(one.name for one in behind)
        return fail(
            "sequences", f"behind their tables: {names}; the next insert fails", f"Run: {mends}"
        )
    return ok("sequences", f"{len(facts.sequences)}, all ahead of their tables")


def _parents(facts: DatabaseFacts) -> Finding:
    if not facts.parents:
        return ok("parents", "the scraper's tables are not here: no snapshot waits for a parent")
    there = ", ".join(sorted(facts.parents))
    missing = [name for name in PARENT_TABLES if name not in facts.parents]
    if missing:
        return warn(
            "parents",
            f"{there} are here, and {', '.join(missing)} not",
            "Make them as the scraper does, or leave it so where this is meant",
        )
    loose = sorted(facts.parents - set(facts.parent_keys.values()))
    if loose:
        return warn(
            "parents",
            f"no foreign key leads to {', '.join(loose)}: it was made after the migration, and"
            " snapshots are written whether their parent is there or not",
            "Add the foreign keys of docs/design.md",
        )
    return ok("parents", f"{there}, each with its foreign key")


def _overdue(facts: DatabaseFacts) -> Finding:
    topics = ", ".join(f"{count:,} of {topic}" for topic, count in facts.overdue.items())
    return warn(
        "letters",
        f"dead letters of another topic wait too long for their parent: {topics}; only a sink of"
        " that topic lets them expire",
        "Where such a sink is at work, wait; else look at them with oddslog dlq list --status"
        " waiting, and take them away with oddslog dlq discard",
    )
