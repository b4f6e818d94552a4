"""What the server of `prefork` imports before it forks: all of oddslog."""

import importlib
import pkgutil

for _part in ("schemas", "ingest", "sink", "deploy"):
    _package = importlib.import_module(f"oddslog.{_part}")
    for _module in pkgutil.walk_packages(_package.__path__, f"{_package.__name__}."):
        # `__main__` would run, and what belongs to Alembic is loaded by it.
        if not _module.name.endswith("__main__") and ".migrations." not in _module.name:
            importlib.import_module(_module.name)
