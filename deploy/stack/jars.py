"""Kafka's jars: the pinned ones and no others, fetched once from Maven Central by jgo.

`kafka-jars.sha256` is both the list (Maven paths, as jgo resolved
`org.apache.kafka:kafka_2.13` and `org.slf4j:slf4j-simple`) and the proof. As it
is complete, nothing is resolved anew: 46 files are fetched, and not 150 POMs.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...schemas.errors import ConfigurationError, UnreachableError
from .failures import EXTRA
from .processes import Cancelled
from .state import locked

if TYPE_CHECKING:
    from .contract import Progress

__all__ = ["KAFKA_VERSION", "cache_directory", "kafka_class_path", "pinned_sums"]

KAFKA_VERSION = "4.3.1"

_FETCHERS = 8
_ATTEMPTS = 3
_CHUNK_BYTES = 1 << 20


def cache_directory() -> Path:
    """Return this user's cache folder of oddslog; it need not be there yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # A relative value is to be ignored, says the XDG specification.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "oddslog"


def pinned_sums() -> dict[str, str]:
    """Return the SHA-256 sums by Maven path, as shipped with this package."""
    text = resources.files(__package__).joinpath("kafka-jars.sha256").read_text("ascii")
    pairs = (line.split() for line in text.splitlines() if line.strip())
    return {path: digest for digest, path in pairs}


def kafka_class_path(progress: "Progress", cancel: threading.Event) -> list[Path]:
    """Return Kafka's jars from the cache, each with its pinned sum; fetch what is missing.

    Raises:
        Cancelled: `cancel` was set.
        ConfigurationError: a fetched jar has another sum, or jgo is not installed.
        UnreachableError: jars are missing and cannot be fetched.
        OSError: the cache cannot be written.
    """
    sums = pinned_sums()
    folder = cache_directory() / "jars"
    if _wrong(folder, sums):
        folder.mkdir(parents=True, exist_ok=True)
        waiting = "waiting for another process that fetches Kafka's jars"
        with locked(folder / ".lock", lambda: progress(waiting)):
            _complete(folder, sums, progress, cancel)
    return [folder / path for path in sorted(sums)]


def _complete(
    folder: Path, sums: Mapping[str, str], progress: "Progress", cancel: threading.Event
) -> None:
    """Fetch what is missing beside the cache, and move each jar in once it is proven."""
    missing = _wrong(folder, sums)  # again: another process may have been quicker
    for left in folder.glob(".fetch-*"):  # we hold the lock: of a fetch that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
        missing = {p: s for p, s in missing.items() if not _borrowed(p, s, folder, Path(scratch))}
        if missing:
            progress(f"fetching {len(missing)} jars of Kafka {KAFKA_VERSION} from Maven Central")
            _fetch_all(missing, folder, Path(scratch), progress, cancel)


def _wrong(folder: Path, sums: Mapping[str, str]) -> dict[str, str]:
    return {path: digest for path, digest in sums.items() if _sum(folder / path) != digest}


def _sum(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()


def _borrowed(path: str, digest: str, folder: Path, scratch: Path) -> bool:
    """Take a jar from the user's own Maven repository where it is the right one."""
    own = Path(os.environ.get("M2_REPO") or Path.home() / ".m2" / "repository") / path
    try:
        if _sum(own) != digest:
            return False
        copy = scratch / "borrowed.jar"
        shutil.copyfile(own, copy)
    except OSError:
        return False
    return _moved_in(copy, path, digest, folder)


def _moved_in(jar: Path, path: str, digest: str, folder: Path) -> bool:
    if _sum(jar) != digest:
        return False
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    jar.replace(target)
    return True


def _fetch_all(
    missing: Mapping[str, str],
    folder: Path,
    scratch: Path,
    progress: "Progress",
    cancel: threading.Event,
) -> None:
    stop = threading.Event()

    def fetch(path: str, digest: str) -> None:
        jar = _fetched(path, scratch, lambda: cancel.is_set() or stop.is_set())
        if not _moved_in(jar, path, digest, folder):
            raise ConfigurationError(
                f"{path}: the fetched jar is not the pinned one (SHA-256 {_sum(jar)[:16]}..., "
                f"not {digest[:16]}...): it is not used; look at the network's proxy or mirror"
            )

    with _quiet_jgo(), ThreadPoolExecutor(_FETCHERS, "oddslog-jars") as pool:
        jobs = [pool.submit(fetch, path, digest) for path, digest in missing.items()]
        try:
            _watch(jobs, progress)
        finally:
            stop.set()  # what still runs ends at its next chunk
            for job in jobs:
                job.cancel()


def _watch(jobs: list[Any], progress: "Progress") -> None:
    """Report every few seconds; raise what the first failed job raised."""
    left = set(jobs)
    while left:
        done, left = wait(left, timeout=3.0, return_when=FIRST_EXCEPTION)
        for job in done:
            job.result()
        if left:
            ready = len(jobs) - sum(not job.done() for job in jobs)
            progress(f"fetching Kafka's jars: {ready} of {len(jobs)}")


def _fetched(path: str, scratch: Path, given_up: Any) -> Path:
    """Fetch one jar by its Maven path, with a few attempts."""
    context = _maven(scratch, given_up)
    group, artifact, version, _name = path.rsplit("/", 3)
    problem: Exception | None = None
    for _ in range(_ATTEMPTS):
        if given_up():
            raise Cancelled
        half = scratch / path
        half.unlink(missing_ok=True)  # jgo takes any file that is there for a whole one
        try:
            project = context.project(group.replace("/", "."), artifact)
            return Path(project.at_version(version).artifact().resolve())
        except Cancelled:
            raise
        # jgo raises RuntimeError for a missing file, requests its own (OSErrors).
        except Exception as exc:
            if isinstance(exc, OSError) and exc.errno is not None:
                raise  # the disk, not the network
            problem = exc
    raise UnreachableError(
        f"cannot fetch {Path(path).name} from Maven Central ({_short(problem)}): connect to the "
        f"network once, or put the jars into {cache_directory() / 'jars'}"
    ) from problem


def _short(problem: Exception | None) -> str:
    # What requests says is long and names the URL; what jgo says is to the point.
    text = f": {problem}" if isinstance(problem, RuntimeError) else ""
    return f"{type(problem).__name__}{text}"[:160]


def _maven(scratch: Path, given_up: Any) -> Any:
    """Make jgo's view of Maven: our scratch folder as its repository, and the user's mirrors."""
    try:
        from jgo.config import GlobalSettings  # noqa: PLC0415 - the extra `local`
        from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415
        from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415
    except ImportError as exc:
        raise ConfigurationError(f"Kafka's jars are fetched by jgo: {EXTRA}") from exc

    @contextlib.contextmanager
    def watched(_name: str, _size: int) -> Iterator[Any]:
        def update(_bytes: int) -> None:
            if given_up():
                raise Cancelled

        yield update

    mirrors = dict(GlobalSettings.load().repositories)
    return MavenContext(
        resolver=PythonResolver(progress_callback=watched),
        repo_cache=scratch,
        remote_repos={**mirrors, "central": MAVEN_CENTRAL_URL},
    )


@contextlib.contextmanager
def _quiet_jgo() -> Iterator[None]:
    """Keep jgo's log lines out of the terminal; what matters is raised."""
    logger = logging.getLogger("jgo")
    before = logger.propagate, logger.level
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.propagate, level = before
        logger.setLevel(level)
