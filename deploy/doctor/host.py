"""This machine and this installation: compiled libraries, open files, the spool's folder."""

import importlib
import os
import resource
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..words import bytes_words
from .finding import Finding, fail, ok, warn

__all__ = ["HostFacts", "SpoolFacts", "ask_host", "ask_spool", "judge_host", "judge_spool"]

# What makes each fast: without it the package works, or not at all.
_COMPILED = {
    "fastavro": "fastavro._read",
    "aiokafka": "aiokafka.record._crecords",
    "asyncpg": "asyncpg.protocol.protocol",
    "orjson": "orjson",
    "cramjam": "cramjam",
}
_SLOW_WITHOUT = {
    "fastavro": "decoding is some ten times slower",
    "aiokafka": "checksums are some hundred times slower",
}
# Brokers, five sessions of PostgreSQL, the spool, files of libraries: far below it.
_OPEN_FILES = 256
# SQLite's write-ahead log needs shared memory, which these do not give.
_NETWORK_FILE_SYSTEMS = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "lustre", "nfs", "nfs4", "smb3"),
        *("smbfs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"),
    )
)


@dataclass(frozen=True)
class HostFacts:
    """`libraries` says of each whether it is compiled; None where it cannot be loaded."""

    libraries: Mapping[str, bool | None]
    open_files: int | None


@dataclass(frozen=True)
class SpoolFacts:
    """The spool's folder: why it cannot be used, on what it lies, how much room there is."""

    directory: str
    problem: str | None
    file_system: str | None
    free_bytes: int
    spooled_bytes: int
    max_bytes: int


def ask_host() -> HostFacts:
    """Look at the libraries and the limits of this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return HostFacts(
        {name: _is_compiled(name, module) for name, module in _COMPILED.items()},
        None if soft == resource.RLIM_INFINITY else soft,
    )


def ask_spool(directory: str, max_bytes: int) -> SpoolFacts:
    """Look at the spool's folder, and try to write there; leaves nothing. Blocks on the disk."""
    path = Path(directory)
    there = next((one for one in (path, *path.absolute().parents) if one.exists()), Path("/"))
    problem = _write_problem(path, there)
    spooled = path / "spool.sqlite"
    return SpoolFacts(
        directory,
        problem,
        _file_system(there),
        shutil.disk_usage(there).free,
        spooled.stat().st_size if problem is None and spooled.exists() else 0,
        max_bytes,
    )


def judge_host(facts: HostFacts) -> list[Finding]:
    """Pure."""
    findings = []
    for name, compiled in facts.libraries.items():
        if compiled is None:
            findings.append(fail("libraries", f"{name} cannot be loaded", "Install oddslog anew"))
        elif not compiled:
            slow = _SLOW_WITHOUT.get(name, "it is slower")
            findings.append(
                warn(
                    "libraries",
                    f"{name} has no compiled part here: {slow}",
                    "Install a wheel of it (pip install --only-binary :all:), and unset"
                    " AIOKAFKA_NO_EXTENSIONS",
                )
            )
    if not findings:
        findings.append(ok("libraries", f"{', '.join(facts.libraries)} are compiled"))
    limit = facts.open_files
    if limit is not None and limit < _OPEN_FILES:
        do = f"Raise it: ulimit -n {_OPEN_FILES * 4} (LimitNOFILE= in a systemd unit)"
        findings.append(warn("open files", f"at most {limit} a process", do))
    else:
        findings.append(ok("open files", "no limit" if limit is None else f"up to {limit:,}"))
    return findings


def judge_spool(facts: SpoolFacts) -> Finding:
    """Pure."""
    if facts.problem is not None:
        return fail(
            "spool",
            f"{facts.directory} cannot be written: {facts.problem}",
            "Give this user the folder, or name another: ODDSLOG_SPOOL_DIR",
        )
    if facts.file_system in _NETWORK_FILE_SYSTEMS:
        return fail(
            "spool",
            f"{facts.directory} is on {facts.file_system}, where SQLite's log is not safe",
            "Name a folder on a local disk: ODDSLOG_SPOOL_DIR",
        )
    room = facts.free_bytes + facts.spooled_bytes
    if room < facts.max_bytes:
        return warn(
            "spool",
            f"{facts.directory} has room for {bytes_words(room)}, and the spool may take"
            f" {bytes_words(facts.max_bytes)}",
            "Make room, or lower ODDSLOG_SPOOL_BYTES",
        )
    return ok("spool", f"{facts.directory} can be written, {bytes_words(facts.free_bytes)} free")


def _is_compiled(name: str, module: str) -> bool | None:
    try:
        importlib.import_module(name)
    except ImportError:
        return None
    try:
        loaded = importlib.import_module(module)
    except ImportError:
        return False
    if name == "aiokafka" and os.environ.get("AIOKAFKA_NO_EXTENSIONS"):
        return False
    own = getattr(loaded, "__file__", None) or ""
    # A package that is all compiled says so by what it holds.
    return own.endswith((".so", ".pyd")) or name in {"orjson", "cramjam", "aiokafka"}


def _write_problem(path: Path, there: Path) -> str | None:
    """Why nothing can be written in the folder, or in the one that it would be made in."""
    if not there.is_dir():
        return f"{there} is no folder"
    if there != path and not os.access(there, os.W_OK | os.X_OK):
        return f"it is not there, and may not be made in {there}"
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _file_system(path: Path) -> str | None:
    """The type of the file system a folder is on; None where the system does not tell."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    place = path.resolve()
    best, found = -1, None
    for line in lines:
        _, mount, kind, *_ = line.split(" ")
        point = Path(mount.encode().decode("unicode_escape"))
        depth = len(point.parts)
        if place.is_relative_to(point) and depth >= best:
            best, found = depth, kind
    return found
