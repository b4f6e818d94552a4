"""The version of the installed distribution."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["VERSION"]

try:
    VERSION = version("oddslog")
except PackageNotFoundError:  # a source tree on the path, not installed
    VERSION = "0+unknown"
