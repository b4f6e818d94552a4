"""Passwords that would go to another machine in plain text: said, and not refused."""

import re
from urllib.parse import parse_qs, urlsplit

import structlog

from ..schemas.tls import is_loopback
from .settings import Settings, variable

__all__ = ["plain_text_database_hosts", "warn_of_plain_text"]

log = structlog.get_logger("oddslog.sink")

# libpq's modes that never fall back to plain text.
_ENCRYPTED = ("require", "verify-ca", "verify-full")


def warn_of_plain_text(settings: Settings) -> None:
    """Log a warning for each server on another machine that would get a password so."""
    hosts = settings.kafka().plain_text_hosts()
    if hosts:
        do = f"set {variable('security_protocol')}=SASL_SSL"
        log.warning("password_in_plain_text", server="Kafka", hosts=hosts, do=do)
    registry = settings.kafka().registry()
    if registry is not None and registry.plain_text_hosts:
        do = f"use https:// in {variable('schema_registry_url')}"
        hosts = registry.plain_text_hosts
        log.warning("password_in_plain_text", server="schema registry", hosts=hosts, do=do)
    url = settings.database_url
    hosts = plain_text_database_hosts(url.get_secret_value()) if url else []
    if hosts:
        do = f"add sslmode=verify-full to {variable('database_url')}"
        log.warning("password_in_plain_text", server="PostgreSQL", hosts=hosts, do=do)


def plain_text_database_hosts(database_url: str) -> list[str]:
    """The other machines to which the URL's password may go without TLS; none is fine.

    By the URL alone: the libraries that open it take long to load. What is no URL has none.
    """
    try:
        url = urlsplit(database_url)
        query = parse_qs(url.query)
    except ValueError:
        return []
    login, _, authority = url.netloc.rpartition("@")
    if not (":" in login or "password" in query) or query.get("sslmode", [""])[-1] in _ENCRYPTED:
        return []
    named = query.get("host") or authority.split(",")
    return [host for host in map(_without_port, named) if not is_loopback(host)]


def _without_port(host: str) -> str:
    return host if host.startswith("/") else re.sub(r":\d*$", "", host)
