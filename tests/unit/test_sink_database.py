"""Database URLs: several hosts, and no password shown."""

import pytest

from oddslog.sink.database import make_engine
from oddslog.sink.database_url import masked_url


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("postgresql://u:p@h1:5432,h2:5433/db", ("h1:5432", "h2:5433")),
        ("postgresql://h1,h2/db?target_session_attrs=any", ("h1:5432", "h2:5432")),
        ("postgresql+asyncpg://u:p@h1:5432/db", None),
    ],
)
def test_several_hosts_are_taken_as_libpq_writes_them(
    url: str, host: tuple[str, ...] | None
) -> None:
    """They go to the driver, and nothing of the URL is lost."""
    made = make_engine(url).url
    assert made.query.get("host") == host
    assert made.database == "db"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@h/db",
        "postgresql://u@h/db?password=hunter2",
        "postgresql://u:hunter2@h1,h2/db?sslpassword=hunter2",
        "postgresql://u:hunter2@h:port/db",
    ],
)
def test_no_password_is_shown(url: str) -> None:
    """Neither in the authority nor in the query, nor of a URL that is none."""
    assert "hunter2" not in masked_url(url)
