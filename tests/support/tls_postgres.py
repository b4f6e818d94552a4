"""A PostgreSQL with TLS: Debian's, or another on this machine; the embedded one has none."""

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from oddslog.deploy.stack.binaries import Programs, account_for_postgres
from oddslog.deploy.stack.contract import Progress
from oddslog.deploy.stack.postgres import PostgresServer
from oddslog.deploy.stack.state import StateFile
from tests.support.certificates import Certificates

__all__ = ["TlsPostgres", "programs_with_tls"]

_OLDEST = 15


def programs_with_tls() -> Programs | None:
    """The newest PostgreSQL here that was built with TLS; None where there is none."""
    found = [made for folder in _folders() if (made := _programs(folder)) is not None]
    return max(found, key=lambda made: made.major, default=None)


def _folders() -> Iterator[Path]:
    yield from Path("/usr/lib/postgresql").glob("*/bin")
    on_path = shutil.which("initdb")
    if on_path:
        yield Path(on_path).resolve().parent


def _programs(folder: Path) -> Programs | None:
    try:
        version = _said(folder / "postgres", "--version")
        # Not of the build's options, which not every package ships: of the libraries.
        linked = _said(Path("ldd"), str(folder / "postgres"))
    except (OSError, subprocess.CalledProcessError):
        return None
    number = re.search(r"(\d+(\.\d+)?)", version)
    if number is None or "libssl" not in linked or int(number[1].partition(".")[0]) < _OLDEST:
        return None
    return Programs(folder, number[1])


def _said(*command: Path | str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class TlsPostgres(PostgresServer):
    """With these programs and a certificate; by TLS or plain text, and two special users.

    `by_certificate` logs in by a client's certificate of that name, and no other way;
    `not_plain` is let in by TLS alone.
    """

    def __init__(self, folder: Path, programs: Programs, files: Certificates) -> None:
        folder.mkdir(exist_ok=True)
        super().__init__(folder, StateFile(folder), {"fsync": "off"})
        self._given = programs
        self._files = files

    def prepare(self, progress: Progress, cancel: threading.Event) -> None:
        """Make the data folder with the programs that were given."""
        self._programs = self._given
        if not self.state.made:
            self._initialise(account_for_postgres(), progress, cancel)
            rules = self.data / "pg_hba.conf"
            rules.write_text(_RULES + rules.read_text("utf-8"), "utf-8")

    def bring_up(self, certificate: str | None) -> None:
        """Start it anew with this certificate, or without TLS."""
        self.stop()
        nothing = threading.Event()
        self.prepare(lambda _line: None, nothing)
        self._settings["ssl"] = "off" if certificate is None else "on"
        if certificate is not None:
            own = self._copied(certificate)
            self._settings |= {"ssl_cert_file": own, "ssl_key_file": own}
            self._settings["ssl_ca_file"] = self._copied(self._files.ca)
        self.start(lambda _line: None, nothing)

    def url(self, query: str, *, user: str | None = None, host: str = "127.0.0.1") -> str:
        """The administrator's URL, or another user's without password."""
        state = self.state
        login = f"postgres:{state.password}" if user is None else user
        return f"postgresql://{login}@{host}:{state.port}/postgres?{query}"

    def _copied(self, file: str) -> str:
        """Where its user, and nobody else, can read it."""
        target = self.data / Path(file).name
        shutil.copyfile(file, target)
        account = self._account()
        if account is not None:
            os.chown(target, account.uid, account.gid)
        target.chmod(0o600)
        return str(target)


_RULES = """\
hostssl all by_certificate 127.0.0.1/32 cert
hostnossl all not_plain 127.0.0.1/32 reject
"""
