"""The stack that chooses: what the folder holds already, else docker, else local."""

from ...schemas.errors import OddslogError
from .containers import DockerStack
from .contract import Progress, Servers
from .local import LocalStack

__all__ = ["AutomaticStack"]


class AutomaticStack:
    """One of two stacks in one folder; once it has data, it stays the same."""

    def __init__(self, docker: DockerStack, local: LocalStack) -> None:
        self._docker = docker
        self._local = local

    def __repr__(self) -> str:
        """What it is so far."""
        return f"<AutomaticStack {self._chosen() or 'undecided'}>"

    def start(self, progress: Progress) -> Servers:
        """Choose where nothing is chosen yet, and bring both servers up.

        Raises:
            ConfigurationError: something is missing or wrong here (one line).
            UnreachableError: a server or the network does not answer (one line).
        """
        chosen = self._chosen()
        if chosen is not None:
            return chosen.start(progress)
        problem = self._docker.why_not(progress)
        if problem is None:
            try:
                return self._docker.start(progress)
            except OddslogError as exc:  # it has left nothing behind
                problem = str(exc)
        progress(f"no docker here ({problem}): taking the local stack")
        return self._local.start(progress)

    def stop(self) -> None:
        """End what `start` started; the data stays."""
        self._docker.stop()
        self._local.stop()

    def destroy(self) -> None:
        """Stop, and remove the data of either."""
        self._docker.destroy()
        self._local.destroy()

    def running(self) -> Servers | None:
        """Return the addresses where both servers answer now, else None."""
        chosen = self._chosen()
        return chosen.running() if chosen is not None else None

    def _chosen(self) -> DockerStack | LocalStack | None:
        if self._docker.remembered:
            return self._docker
        return self._local if self._local.remembered else None
