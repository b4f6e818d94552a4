"""`oddslog config`: the settings as they are, and where each came from."""
# ruff: noqa: PLC0415 - loaded when the command runs

from pydantic import SecretStr

from ...schemas.registry import masked_registry_url
from ..settings import Settings, variable
from .common import Json, Run, begin

__all__ = ["config"]


def config(as_json: Json = False) -> None:
    """Show the effective settings, secrets masked, with where each came from.

    Secrets can also be read from files: ODDSLOG_DATABASE_URL_FILE,
    ODDSLOG_SASL_PASSWORD_FILE, ODDSLOG_SSL_KEYFILE_PASSWORD_FILE,
    ODDSLOG_SCHEMA_REGISTRY_URL_FILE.

    Example: oddslog config --json
    """
    run = begin(as_json=as_json)
    values = {field: _shown(run, field) for field in Settings.model_fields}
    origins = run.configuration.origins
    run.out.table(
        ["setting", "value", "from"],
        [
            (variable(field), "-" if value is None else str(value), _brief(field, origins[field]))
            for field, value in values.items()
        ],
    )
    run.out.result(
        {
            variable(field): {"value": value, "source": origins[field]}
            for field, value in values.items()
        }
    )


def _shown(run: Run, field: str) -> object:
    value = getattr(run.settings, field)
    if not isinstance(value, SecretStr):
        return value
    if field == "schema_registry_url":
        return masked_registry_url(value.get_secret_value())
    if field != "database_url":
        return "***"
    from ..database import safe_url

    return safe_url(value.get_secret_value())


def _brief(field: str, origin: str) -> str:
    """The name of the setting is in the same line already."""
    if origin == variable(field):
        return "environment"
    return origin.replace(f"{variable(field)}_FILE (", "file (", 1)
