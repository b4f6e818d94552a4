"""Which of our schemas the ids in a log stand for, as the schema registry says."""

import asyncio
from collections.abc import Iterable, Mapping

from ..schemas.connection import KafkaConnection
from ..schemas.errors import DecodeError
from ..schemas.framing import fingerprint_of, registry_id, shipped_schemas, single_object_framed
from ..schemas.registry import SchemaRegistry, subject_of

__all__ = ["RegistrySchemas", "check_registry", "registry_schemas"]

# What one node of a registry was just told another may not know yet.
_AGAIN_SECONDS = 0.5


class RegistrySchemas:
    """What is known of a registry's ids; asked once each.

    Attributes:
        known: by id, the fingerprint of the schema, or in words why it cannot be read.
    """

    def __init__(self, registry: SchemaRegistry) -> None:
        self._registry = registry
        self._known: dict[int, bytes | str] = {}
        self._missing: dict[int, str] = {}

    @property
    def known(self) -> Mapping[int, bytes | str]:
        """As `decode_record` takes it."""
        return self._known | self._missing if self._missing else self._known

    async def learn(self, values: Iterable[bytes | None]) -> None:
        """Know every id in these values; asks for what is new, in milliseconds.

        An id that the registry does not have is asked for again in the next call.

        Raises:
            UnreachableError: the registry does not answer.
            ConfigurationError: it refuses us.
        """
        found = (registry_id(value) for value in values if value)
        ids = {one for one in found if one is not None and one not in self._known}
        if not ids:
            return
        missing = await self._ask(ids)
        if missing:
            await asyncio.sleep(_AGAIN_SECONDS)
            missing = await self._ask(missing)
        self._missing = {
            one: f"has schema id {one}, which the {self._registry.place} does not know"
            for one in missing
        }

    def plain(self, value: bytes) -> bytes:
        """A value that was learnt, framed without the registry; as it is where that cannot be."""
        schema_id = registry_id(value)
        found = None if schema_id is None else self._known.get(schema_id)
        return single_object_framed(value, found) if isinstance(found, bytes) else value

    async def _ask(self, ids: Iterable[int]) -> set[int]:
        """Ask for each; those that the registry does not have."""
        missing = set()
        for one in ids:
            text = await asyncio.to_thread(self._registry.schema, one)
            if text is None:
                missing.add(one)
            else:
                self._known[one] = _ours(one, text)
        return missing


def _ours(schema_id: int, text: str) -> bytes | str:
    """The fingerprint, where this version ships the schema; else why it is not to be read."""
    try:
        fingerprint = fingerprint_of(text)
    except DecodeError as error:
        return f"has schema id {schema_id}, which {error}"
    if fingerprint not in shipped_schemas():
        return (
            f"has schema id {schema_id} (fingerprint {fingerprint.hex()}), which is not known to"
            " this version"
        )
    return fingerprint


def registry_schemas(connection: KafkaConnection) -> RegistrySchemas | None:
    """For the registry of a connection; None where it has none. Connects to nothing."""
    registry = connection.registry()
    return None if registry is None else RegistrySchemas(registry)


async def check_registry(connection: KafkaConnection, topic: str) -> None:
    """Ask the registry for what it has of the topic, where there is one.

    Raises:
        UnreachableError: it does not answer.
        ConfigurationError: it refuses us.
    """
    registry = connection.registry()
    if registry is not None:
        await asyncio.to_thread(registry.compatibility, subject_of(topic))
