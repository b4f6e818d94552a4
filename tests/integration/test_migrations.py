"""Migrations on a real PostgreSQL: there, back, compared with the models, all or nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.stack import Servers
from oddslog.schemas.errors import ConfigurationError
from oddslog.sink.database import make_engine
from oddslog.sink.errors import NotMigratedError
from oddslog.sink.migrate import (
    VERSION_TABLE,
    _config,
    check_migrated,
    current_revision,
    head_revision,
    migrate,
)
from oddslog.sink.tables import PARENT_TABLES, make_metadata
from tests.fixtures.servers import PARENT_DDL, create_database, drop_database
from tests.support.polls import one, rows
from tests.support.waiting import until

WITH_PARENTS = pytest.mark.parametrize("parents", [(), PARENT_TABLES], ids=["alone", "parents"])
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"


@pytest.fixture
async def empty(servers: Servers, new_name: str) -> AsyncIterator[AsyncEngine]:
    """An engine on a database without any table, whose time zone is not UTC."""
    name = f"{new_name}_empty"
    engine = make_engine(await create_database(servers, name))
    await execute(engine, f"ALTER DATABASE {name} SET timezone = 'Asia/Kathmandu'")
    await engine.dispose()
    yield engine
    await engine.dispose()
    await drop_database(servers, name)


async def execute(engine: AsyncEngine, script: str) -> None:
    """Run the statements of a script, divided by `;`."""
    async with engine.begin() as connection:
        for statement in filter(str.strip, script.split(";")):
            await connection.exec_driver_sql(statement)


async def run_alembic(
    engine: AsyncEngine, run: Callable[..., None], revision: str, *, time_zone: str = "UTC"
) -> None:
    """Up or down to a revision, in a session of that time zone."""

    def in_sync(connection: Connection) -> None:
        connection.exec_driver_sql(f"SET LOCAL timezone = '{time_zone}'")
        config = _config()
        config.attributes["connection"] = connection
        run(config, revision)

    async with engine.begin() as connection:
        await connection.run_sync(in_sync)


async def tables(engine: AsyncEngine) -> list[str]:
    """The names of all tables but the migrations' own."""
    return [row.tablename for row in await rows(engine, TABLES) if row.tablename != VERSION_TABLE]


@WITH_PARENTS
async def test_up_down_and_up_again(empty: AsyncEngine, parents: tuple[str, ...]) -> None:
    """Each way leaves just its own tables, and the second way up the same as the first."""
    await execute(empty, PARENT_DDL if parents else "")
    statements = await migrate(empty)
    assert any("oddslog_ledger" in statement for statement in statements)
    async with empty.connect() as connection:
        await check_migrated(connection)
    first, shape = await tables(empty), await catalog(empty)
    assert {*make_metadata(parents).tables, "odds_snapshots_default"} == set(first)
    await run_alembic(empty, command.downgrade, "0001")
    assert not [name for name in await tables(empty) if name.startswith("oddslog")]
    await run_alembic(empty, command.downgrade, "base")
    assert await tables(empty) == sorted(parents)
    async with empty.connect() as connection:
        with pytest.raises(NotMigratedError, match="oddslog migrate"):
            await check_migrated(connection)
    await migrate(empty)
    assert (await tables(empty), await catalog(empty)) == (first, shape)
    assert await migrate(empty) == []  # the second time in a row


@WITH_PARENTS
async def test_models_are_what_the_migrations_make(
    empty: AsyncEngine, parents: tuple[str, ...]
) -> None:
    """Alembic finds nothing to do, types and defaults included."""
    await execute(empty, PARENT_DDL if parents else "")
    await migrate(empty)

    def differences(connection: Connection) -> list[object]:
        def is_ours(name: str | None, kind: str, _parents: object) -> bool:
            # A partition is no model of its own; the version table is Alembic's.
            return kind != "table" or name not in {"odds_snapshots_default", VERSION_TABLE}

        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_name": is_ours,
                "version_table": VERSION_TABLE,
            },
        )
        return list(compare_metadata(context, make_metadata(parents)))

    async with empty.connect() as connection:
        assert await connection.run_sync(differences) == []
    # What Alembic does not compare: how the indexes are made, and partitions.
    made = {row.indexname: row.indexdef for row in await rows(empty, "SELECT * FROM pg_indexes")}
    assert "captured_at DESC" in made["idx_snapshots_event_time"]
    assert "USING brin (captured_at)" in made["idx_snapshots_captured_brin"]
    for table in ("odds_snapshots", "competitor_odds_snapshots"):
        assert made[f"uq_{table}_key"].startswith("CREATE UNIQUE INDEX")
        assert made[f"uq_{table}_key"].endswith("WHERE (content_hash IS NOT NULL)")


async def catalog(engine: AsyncEngine) -> list[tuple[object, ...]]:
    """Each column as the catalog has it, with its default."""
    found = await rows(
        engine,
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull,"
        " pg_get_expr(d.adbin, d.adrelid) AS default"
        " FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid"
        " LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
        " AND a.attnum > 0 AND NOT a.attisdropped AND c.relname <> :version"
        " ORDER BY c.relname, a.attname",
        version=VERSION_TABLE,
    )
    return [tuple(row) for row in found]


NAIVE, AWARE = "timestamp without time zone", "timestamp with time zone"
# DESIGN 6.8, letter by letter: type, not null, default.
MARKETS = {
    "id": ("bigint", True, "nextval('{table}_id_seq'::regclass)"),
    "snapshot_id": ("bigint", True, None),
    "betpawa_market_id": ("character varying(50)", True, None),
    "betpawa_market_name": ("character varying(255)", True, None),
    "line": ("double precision", False, None),
    "handicap_type": ("character varying(50)", False, None),
    "handicap_home": ("double precision", False, None),
    "handicap_away": ("double precision", False, None),
    "outcomes": ("json", True, None),
    "market_groups": ("json", False, None),
}
SCRAPER = {
    "odds_snapshots": {
        "id": ("bigint", True, "nextval('{table}_id_seq'::regclass)"),
        "event_id": ("integer", True, None),
        "bookmaker_id": ("integer", True, None),
        "captured_at": (AWARE, True, "now()"),
        "scrape_run_id": ("integer", False, None),
        "raw_response": ("jsonb", False, None),
        "last_confirmed_at": (NAIVE, False, None),
    },
    "market_odds": MARKETS,
    "competitor_odds_snapshots": {
        "id": ("bigint", True, "nextval('{table}_id_seq'::regclass)"),
        "competitor_event_id": ("integer", True, None),
        "captured_at": (NAIVE, True, "now()"),
        "scrape_run_id": ("integer", False, None),
        "raw_response": ("json", False, None),
        "last_confirmed_at": (NAIVE, False, None),
    },
    "competitor_market_odds": MARKETS,
}
KEYS = {
    "odds_snapshots": ["PRIMARY KEY (id, captured_at)"],
    "market_odds": ["PRIMARY KEY (id)"],
    "competitor_odds_snapshots": ["PRIMARY KEY (id)"],
    "competitor_market_odds": [
        "FOREIGN KEY (snapshot_id) REFERENCES competitor_odds_snapshots(id)",
        "PRIMARY KEY (id)",
    ],
}
PARENT_KEYS = {
    "odds_snapshots": [
        "FOREIGN KEY (bookmaker_id) REFERENCES bookmakers(id)",
        "FOREIGN KEY (event_id) REFERENCES events(id)",
        "FOREIGN KEY (scrape_run_id) REFERENCES scrape_runs(id)",
    ],
    "competitor_odds_snapshots": [
        "FOREIGN KEY (competitor_event_id) REFERENCES competitor_events(id)",
        "FOREIGN KEY (scrape_run_id) REFERENCES scrape_runs(id)",
    ],
}
INDEXES = {
    "idx_snapshots_event": "odds_snapshots USING btree (event_id)",
    "idx_snapshots_bookmaker": "odds_snapshots USING btree (bookmaker_id)",
    "idx_snapshots_event_time": "odds_snapshots USING btree (event_id, captured_at DESC)",
    "idx_snapshots_captured_brin": "odds_snapshots USING brin (captured_at)",
    "idx_market_odds_snapshot": "market_odds USING btree (snapshot_id)",
    "idx_market_odds_market": "market_odds USING btree (betpawa_market_id)",
    "idx_competitor_odds_snapshots_event": (
        "competitor_odds_snapshots USING btree (competitor_event_id)"
    ),
    "idx_competitor_odds_snapshots_captured": (
        "competitor_odds_snapshots USING btree (captured_at)"
    ),
    "idx_competitor_market_odds_snapshot": "competitor_market_odds USING btree (snapshot_id)",
    "idx_competitor_market_odds_market": "competitor_market_odds USING btree (betpawa_market_id)",
}


@WITH_PARENTS
async def test_the_first_revision_is_the_scrapers_schema(
    empty: AsyncEngine, parents: tuple[str, ...]
) -> None:
    """Columns, types, defaults, keys, indexes and partitions as DESIGN 6.8 has them."""
    await execute(empty, PARENT_DDL if parents else "")
    await run_alembic(empty, command.upgrade, "0001")
    assert await tables(empty) == sorted([*SCRAPER, "odds_snapshots_default", *parents])
    found: dict[str, dict[str, tuple[object, ...]]] = {}
    for table, column, *shape in await catalog(empty):
        found.setdefault(str(table), {})[str(column)] = tuple(shape)
    for table, columns in SCRAPER.items():
        assert found[table] == {
            name: (kind, required, default and default.format(table=table))
            for name, (kind, required, default) in columns.items()
        }
    for table, keys in KEYS.items():
        constraints = await rows(
            empty,
            "SELECT pg_get_constraintdef(oid) AS definition FROM pg_constraint"
            " WHERE conrelid = CAST(:t AS regclass) AND contype IN ('p', 'f') ORDER BY 1",
            t=table,
        )
        expected = sorted([*keys, *(PARENT_KEYS.get(table, []) if parents else [])])
        assert [row.definition for row in constraints] == expected
    indexes = await rows(
        empty,
        "SELECT indexname, split_part(indexdef, ' ON ', 2) AS definition FROM pg_indexes"
        " WHERE indexname LIKE 'idx%'",
    )
    made = {
        row.indexname: row.definition.removeprefix("ONLY ").removeprefix("public.")
        for row in indexes
    }
    assert made == INDEXES
    partition = "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = :name"
    assert await one(empty, partition, name="odds_snapshots_default") == "DEFAULT"
    key = "SELECT pg_get_partkeydef('odds_snapshots'::regclass)"
    assert await one(empty, key) == "RANGE (captured_at)"


async def test_naive_times_keep_their_instant(empty: AsyncEngine) -> None:
    """Whatever the time zone of server and session, up and down again."""
    await run_alembic(empty, command.upgrade, "0001")
    await execute(
        empty,
        "INSERT INTO odds_snapshots (event_id, bookmaker_id, captured_at, last_confirmed_at)"
        " VALUES (1, 1, '2026-07-01 12:00:00.000001Z', '2026-07-01 12:00:00.000001');"
        "INSERT INTO competitor_odds_snapshots (competitor_event_id, captured_at,"
        " last_confirmed_at) VALUES (1, '2026-01-01 12:00', '2026-07-01 12:00:00.000001')",
    )
    await run_alembic(empty, command.upgrade, "head", time_zone="America/New_York")
    betpawa = "captured_at = '2026-07-01 12:00:00.000001Z' AND last_confirmed_at = captured_at"
    competitor = (
        "captured_at = '2026-01-01 12:00Z' AND last_confirmed_at = '2026-07-01 12:00:00.000001Z'"
    )
    assert await one(empty, f"SELECT {betpawa} FROM odds_snapshots")  # noqa: S608
    assert await one(empty, f"SELECT {competitor} FROM competitor_odds_snapshots")  # noqa: S608
    await run_alembic(empty, command.downgrade, "0001", time_zone="America/New_York")
    naive = await one(empty, "SELECT last_confirmed_at::text FROM competitor_odds_snapshots")
    assert naive == "2026-07-01 12:00:00.000001"


async def test_a_dry_run_changes_nothing(empty: AsyncEngine) -> None:
    """The same statements as the real run, rolled back."""
    before = await catalog(empty)
    tried = await migrate(empty, dry_run=True)
    assert (await catalog(empty), await tables(empty)) == (before, [])
    async with empty.connect() as connection:
        assert await current_revision(connection) is None
    assert await migrate(empty) == tried
    assert await migrate(empty, dry_run=True) == []


async def test_two_at_once(empty: AsyncEngine) -> None:
    """One migrates, the other waits for it and finds nothing to do; in a new schema, too."""
    engines = [make_engine(str_url(empty), schema="apart") for _ in range(3)]
    try:
        done = await asyncio.gather(*(migrate(engine, schema="apart") for engine in engines))
        assert sorted(map(bool, done)) == [False, False, True]
        async with engines[0].connect() as connection:
            assert await current_revision(connection) == head_revision()
    finally:
        for engine in engines:
            await engine.dispose()
    assert await tables(empty) == []


async def test_the_wait_for_another_has_no_time_out(empty: AsyncEngine) -> None:
    """The first may rewrite large tables: the second waits, whatever its time-outs."""
    hasty = make_engine(str_url(empty))
    event.listen(hasty.sync_engine, "begin", _set_hasty)
    async with empty.connect() as first:
        await first.exec_driver_sql("SELECT pg_advisory_xact_lock(1868850291)")
        second = asyncio.create_task(migrate(hasty))
        await until(
            lambda: one(
                empty,
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"
                " AND datname = current_database() AND now() - query_start > interval '600 ms'",
            ),
            "the wait",
        )
        await first.rollback()
        assert await second
    await hasty.dispose()


def _set_hasty(connection: Connection) -> None:
    connection.exec_driver_sql("SET LOCAL lock_timeout = '500ms'")
    connection.exec_driver_sql("SET LOCAL statement_timeout = '500ms'")


def str_url(engine: AsyncEngine) -> str:
    """The engine's URL with its password."""
    return engine.url.render_as_string(hide_password=False)


@pytest.mark.parametrize("table", ["odds_snapshots", "competitor_market_odds", "oddslog_ledger"])
async def test_foreign_tables_are_refused(empty: AsyncEngine, table: str) -> None:
    """One line that names the table; nothing is changed, also after a way up and down."""
    for _ in range(2):
        await execute(empty, f"CREATE TABLE {table} (id int)")
        with pytest.raises(ConfigurationError) as raised:
            await migrate(empty)
        assert str(raised.value).startswith(f"table {table} is there")
        assert "\n" not in str(raised.value)
        assert await tables(empty) == [table]
        await execute(empty, f"DROP TABLE {table}")
        await migrate(empty)
        await run_alembic(empty, command.downgrade, "base")


async def test_a_user_without_the_right_to_make_schemas(
    servers: Servers, empty: AsyncEngine, new_name: str
) -> None:
    """Who may make tables in the schema can migrate it."""
    role = f"{new_name}_role"
    await execute(
        empty,
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT ALL ON SCHEMA public TO {role}",
    )
    engine = make_engine(empty.url.set(username=role, password="x").render_as_string(False))
    try:
        assert await migrate(engine)
    finally:
        await engine.dispose()
        await execute(empty, f"DROP OWNED BY {role}; DROP ROLE {role}")
