"""PostgreSQL over TLS: what is checked, and what is said where it does not fit."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.deploy.database import asking
from oddslog.schemas.errors import ConfigurationError, UnreachableError
from oddslog.sink.database import make_engine
from oddslog.sink.migrate import migrate
from oddslog.sink.opening import check_database
from tests.fixtures.sinks import Feed, RunSink
from tests.support.batches import batch, snapshot
from tests.support.certificates import KEY_PASSWORD, Certificates, make_certificates
from tests.support.tls_postgres import TlsPostgres, programs_with_tls

CLIENT = "by_certificate"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of this module's server and client."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), CLIENT)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, files: Certificates) -> Iterator[TlsPostgres]:
    """A server with TLS; each test starts it with the certificate that it wants."""
    programs = programs_with_tls()
    if programs is None:
        pytest.skip("no PostgreSQL with TLS is here (on Debian: apt-get install postgresql)")
    made = TlsPostgres(tmp_path_factory.mktemp("tls-postgres"), programs, files)
    try:
        made.bring_up(files.server)
        yield made
    finally:
        made.stop()
        made.remove_data()


@pytest.fixture
async def engine_of() -> AsyncIterator[Callable[[str], AsyncEngine]]:
    """Make engines, and let go of them."""
    made: list[AsyncEngine] = []

    def make(url: str) -> AsyncEngine:
        made.append(make_engine(url))
        return made[-1]

    yield make
    for one in made:
        await one.dispose()


async def is_encrypted(engine: AsyncEngine) -> bool:
    """Whether the server sees TLS on this connection."""
    async with engine.connect() as connection:
        return bool(
            await connection.scalar(
                text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            )
        )


async def test_the_sink_writes_over_tls_that_is_checked_in_full(
    server: TlsPostgres,
    files: Certificates,
    engine_of: Callable[[str], AsyncEngine],
    feed: Feed,
    run_sink: RunSink,
) -> None:
    """Migration and sink; `verify-full` with the authority's file."""
    engine = engine_of(server.url(f"sslmode=verify-full&sslrootcert={files.ca}", host="localhost"))
    assert await is_encrypted(engine)
    await migrate(engine)
    await feed([batch([snapshot()])])
    totals = await run_sink(engine)
    assert totals.snapshots == 1


@pytest.mark.parametrize(
    ("query", "encrypted"),
    [
        ("sslmode=disable", False),
        ("sslmode=require", True),
        ("sslmode=verify-ca&sslrootcert={ca}", True),
        ("", True),  # where the server has it
    ],
)
async def test_the_modes_are_those_of_libpq(
    server: TlsPostgres,
    files: Certificates,
    engine_of: Callable[[str], AsyncEngine],
    query: str,
    encrypted: bool,
) -> None:
    """Each as the server sees it."""
    url = server.url(query.format(ca=files.ca))
    assert await is_encrypted(engine_of(url)) is encrypted


async def test_a_user_may_log_in_by_certificate(
    server: TlsPostgres, files: Certificates, engine_of: Callable[[str], AsyncEngine]
) -> None:
    """With a key that has a password; nothing else opens."""
    admin = engine_of(server.url("sslmode=require"))
    async with admin.begin() as connection:
        await connection.execute(text(f"CREATE ROLE {CLIENT} LOGIN"))
    full = f"sslmode=verify-full&sslrootcert={files.ca}"
    own = f"&sslcert={files.client}&sslkey={files.client_key}&sslpassword={KEY_PASSWORD}"
    assert await is_encrypted(engine_of(server.url(full + own, user=CLIENT)))
    with pytest.raises(ConfigurationError, match=r"refuses this user: .*certificate of its own"):
        await check_database(engine_of(server.url(full, user=CLIENT)))


WRONG = [
    pytest.param(
        "other_ca",
        "server",
        ConfigurationError,
        "authority that is not trusted here.*sslrootcert",
        id="another authority",
    ),
    pytest.param(
        "ca", "expired", UnreachableError, "has expired or is not valid yet", id="expired"
    ),
    pytest.param(
        "ca",
        "elsewhere",
        ConfigurationError,
        "for another name.*the host in ODDSLOG_DATABASE_URL",
        id="another name",
    ),
    pytest.param("ca", None, UnreachableError, "has no TLS, which sslmode asks for", id="no TLS"),
]


@pytest.mark.parametrize(("authority", "certificate", "kind", "words"), WRONG)
async def test_what_is_wrong_is_one_line_that_says_what_to_do(
    server: TlsPostgres,
    files: Certificates,
    engine_of: Callable[[str], AsyncEngine],
    authority: str,
    certificate: str | None,
    kind: type[Exception],
    words: str,
) -> None:
    """For the sink and for the other commands, and without the password."""
    server.bring_up(None if certificate is None else getattr(files, certificate))
    root = getattr(files, authority)
    engine = engine_of(server.url(f"sslmode=verify-full&sslrootcert={root}"))
    with pytest.raises(kind, match=words) as of_sink:
        await check_database(engine)
    with pytest.raises(kind, match=words) as of_others, asking(engine):
        async with engine.connect():
            pass
    for caught in (of_sink, of_others):
        assert server.state.password not in str(caught.value)
        assert "\n" not in str(caught.value)


async def test_a_user_who_is_let_in_by_tls_alone(
    server: TlsPostgres, files: Certificates, engine_of: Callable[[str], AsyncEngine]
) -> None:
    """Not a wrong password: the line names the rules."""
    server.bring_up(files.server)
    with pytest.raises(ConfigurationError, match=r"with or without TLS.*pg_hba"):
        await check_database(engine_of(server.url("sslmode=disable", user="not_plain")))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sslmode=full", "sslmode=full; it is one of disable, allow, prefer, require, verify-ca"),
        ("sslrootcert=ca.pem", "sslrootcert and no sslmode: add sslmode=verify-full"),
        ("sslmode=verify-full&sslrootcert=away.pem", "TLS files for PostgreSQL cannot be read"),
        ("application_nam=x", "parameter that is not known here: application_nam; known are ssl"),
    ],
)
def test_a_url_that_says_nothing_sensible_is_refused(query: str, words: str) -> None:
    """Before anything is connected."""
    with pytest.raises(ConfigurationError, match=words):
        make_engine(f"postgresql://me:s3cret@db.example/odds?{query}")


def test_certificates_that_were_renewed_are_read_anew(files: Certificates, tmp_path: Path) -> None:
    """A long-lived scraper takes them at its next connection."""
    from oddslog.schemas.tls import TlsFiles, client_context

    path = tmp_path / "ca.pem"
    path.write_bytes(Path(files.ca).read_bytes())
    first = client_context("a test", TlsFiles(str(path)))
    assert client_context("a test", TlsFiles(str(path))) is first
    path.write_bytes(Path(files.other_ca).read_bytes() + Path(files.ca).read_bytes())
    assert len(client_context("a test", TlsFiles(str(path))).get_ca_certs()) == 2
