"""TLS to any server: the context that its certificate is checked with, and what went wrong.

Used for Kafka, PostgreSQL and the schema registry alike, so that each says the same
of the same mistake.
"""

import ssl
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from .errors import ConfigurationError, OddslogError, UnreachableError

__all__ = ["TlsFiles", "TlsWords", "client_context", "is_loopback", "tls_error"]

# OpenSSL's X509_V_ERR_...: what it says of a certificate by number.
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = (62, 64)  # host name, address
# OpenSSL's reasons: what the other side told us of our own certificate.
_OURS_REFUSED = (
    "CERTIFICATE_REQUIRED",
    "BAD_CERTIFICATE",
    "CERTIFICATE_UNKNOWN",
    "CERTIFICATE_EXPIRED",
    "UNKNOWN_CA",
    "HANDSHAKE_FAILURE",
)


class TlsFiles(NamedTuple):
    """Files in PEM; None: the system's authorities, no certificate of our own."""

    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    keyfile_password: str | None = None


class TlsWords(NamedTuple):
    """What a line about a server's TLS says to mend: names of settings."""

    authorities: str
    address: str
    certificate: str


def client_context(
    what: str, files: TlsFiles, *, authority: bool = True, name: bool = True
) -> ssl.SSLContext:
    """A context that checks certificate and host name. Reads files; milliseconds.

    Made once for the same files: the system's authorities take 30 ms to read. A file
    that was replaced is read anew.

    Args:
        what: whose files they are, for the error.
        files: authorities, and our own certificate.
        authority: False takes any certificate: encrypted, to whomever.
        name: False takes any that the authority has signed.

    Raises:
        ConfigurationError: a file that cannot be read, or is none of its kind.
    """
    try:
        return _context(files, authority, name, *map(_changed_at, files[:3]))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"the TLS files for {what} cannot be read: {error}") from error


def _changed_at(path: str | None) -> int | None:
    return None if path is None else Path(path).stat().st_mtime_ns


@lru_cache(maxsize=16)
def _context(files: TlsFiles, authority: bool, name: bool, *_changed: int | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=files.cafile)
    context.check_hostname = authority and name
    context.verify_mode = ssl.CERT_REQUIRED if authority else ssl.CERT_NONE
    if files.certfile is not None:
        # With None, OpenSSL asks the terminal for the password, and waits.
        context.load_cert_chain(files.certfile, files.keyfile, files.keyfile_password or "")
    return context


def tls_error(error: ssl.SSLError, place: str, words: TlsWords) -> OddslogError:
    """A failed handshake in one line, with what to do.

    An `UnreachableError` where the server's side has to be mended and the settings
    are right: an expired certificate passes like an outage.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
            return UnreachableError(
                f"{place}: its certificate, or the one of its authority, has expired or is not"
                " valid yet: renew it there, or set this machine's clock"
            )
        if error.verify_code in _OTHER_NAME:
            return ConfigurationError(
                f"{place}: its certificate is for another name: use the name that it is for"
                f" ({words.address}), or renew it with this one"
            )
        return ConfigurationError(
            f"{place}: its certificate is from an authority that is not trusted here: name the"
            f" file of the right one ({words.authorities})"
        )
    if str(error.reason).endswith(_OURS_REFUSED):
        return ConfigurationError(
            f"{place}: it refuses our certificate, or wants one: name one that its authority has"
            f" signed ({words.certificate})"
        )
    return ConfigurationError(
        f"{place}: no TLS connection ({error.reason or type(error).__name__}): does it speak TLS"
        f" there ({words.address})?"
    )


def is_loopback(host: str) -> bool:
    """Whether what is sent to a host stays on this machine: its name, or a socket's folder."""
    bare = host.strip("[]").lower()
    return (
        bare in ("localhost", "::1", "") or bare.startswith("127.") or host.startswith(("/", "@"))
    )
