"""Why PostgreSQL does not let us in, in one line, with what to do.

By class and SQLSTATE, never by text.
"""

import ssl

from ..schemas.errors import ConfigurationError, OddslogError, UnreachableError
from ..schemas.tls import TlsWords, tls_error
from .classify import error_chain, sqlstate_of
from .database_url import masked_url

__all__ = ["access_error"]

_WORDS = TlsWords(
    authorities="sslrootcert in ODDSLOG_DATABASE_URL",
    address="the host in ODDSLOG_DATABASE_URL",
    certificate="sslcert and sslkey in ODDSLOG_DATABASE_URL",
)
_BY_STATE = {
    "28P01": "refuses this user or password: mend ODDSLOG_DATABASE_URL",
    "28000": "refuses this user: from here, with or without TLS, or without a certificate of its"
    " own (see pg_hba.conf there, and sslmode in ODDSLOG_DATABASE_URL)",
    "3D000": "says there is no such database; create it first",
}


def access_error(error: BaseException, database_url: str) -> OddslogError | None:
    """What refused the connection, or us a right; None where it is something else.

    An `UnreachableError` where it may pass by itself (a certificate that has expired), a
    `ConfigurationError` where settings or rights have to be mended; the caller raises it.
    """
    place = f"PostgreSQL at {masked_url(database_url)}"
    for link in error_chain(error):
        if isinstance(link, ssl.SSLError):
            return tls_error(link, place, _WORDS)
        # The driver raises the bare class where the server answers that it has no TLS,
        # or not at all; every other lost connection is one of its subclasses.
        if type(link) is ConnectionError:
            return UnreachableError(
                f"{place} has no TLS, which sslmode asks for, or closed the connection: turn ssl"
                " on there, or mend sslmode in ODDSLOG_DATABASE_URL"
            )
    state = sqlstate_of(error) or ""
    if state in _BY_STATE:
        return ConfigurationError(f"{place} {_BY_STATE[state]}")
    if state == "42501":
        return ConfigurationError(
            f"{place}: the user lacks a right: {_first_line(error)} (see docs/security.md, or run:"
            " oddslog doctor)"
        )
    return None


def _first_line(error: BaseException) -> str:
    *_, last = error_chain(error)
    return str(last).partition("\n")[0][:200]
