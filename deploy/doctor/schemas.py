"""The shipped schemas against what others hold of them: the registry, golden files."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from ...schemas.codec import decode, decoded_hash, encode
from ...schemas.errors import DecodeError, OddslogError
from ...schemas.framing import (
    CURRENT_SCHEMA,
    SCHEMA_FILES,
    fingerprint_of,
    frame,
    schema_fingerprint,
)
from ...schemas.registry import COMPATIBILITY, RegisteredSchema, SchemaRegistry, subject_of
from ..settings import Settings, variable
from .finding import Finding, fail, failed, ok, warn

__all__ = ["check_registry", "check_schemas", "judge_registry"]

# The other rule that also asks for both directions, of every version with each.
_STRICT = (COMPATIBILITY, f"{COMPATIBILITY}_TRANSITIVE")


async def check_schemas(settings: Settings, golden: Path | None) -> list[Finding]:
    """What is shipped, what the registry has, and what golden files there are. Changes nothing."""
    findings = [
        ok("shipped", f"{name}, fingerprint {schema_fingerprint(name).hex()}")
        for name in SCHEMA_FILES
    ]
    if golden is not None:
        for name in SCHEMA_FILES:
            folder = golden / name.removesuffix(".avsc")
            findings.append(await asyncio.to_thread(_check_golden, name, folder))
    return findings + await check_registry(settings)


async def check_registry(settings: Settings) -> list[Finding]:
    """What the registry has of the topic."""
    registry = settings.kafka().registry()
    if registry is None:
        says = f"none is configured ({variable('schema_registry_url')}): records carry fingerprints"
        return [ok("registry", says)]
    subject = subject_of(settings.topic)
    try:
        rule, versions = await asyncio.to_thread(_ask, registry, subject)
    except OddslogError as error:
        return [failed("registry", error)]
    return judge_registry(subject, rule, versions)


def _ask(registry: SchemaRegistry, subject: str) -> tuple[str | None, list[RegisteredSchema]]:
    return registry.compatibility(subject), registry.versions(subject)


def judge_registry(
    subject: str, rule: str | None, versions: Sequence[RegisteredSchema]
) -> list[Finding]:
    """What is to be said of a subject. Pure."""
    if not versions:
        return [
            warn("registry", f"subject {subject} is not there yet", "The first producer makes it")
        ]
    findings = [_judge_rule(subject, rule)]
    ours = {schema_fingerprint(name): name for name in SCHEMA_FILES}
    seen = set()
    for one in versions:
        where = f"version {one.version} of {subject} (id {one.schema_id})"
        try:
            name = ours.get(fingerprint_of(one.text))
        except DecodeError as error:
            findings.append(fail("registry", f"{where} {error}", "Who registered it?"))
            continue
        if name is None:
            says = f"{where} is no schema of this version: its records become dead letters"
            findings.append(fail("registry", says, "Update oddslog here, or see who registered it"))
        else:
            seen.add(name)
            findings.append(ok("registry", f"{where} is {name}"))
    if CURRENT_SCHEMA not in seen:
        says = f"{subject} does not have {CURRENT_SCHEMA} yet"
        findings.append(warn("registry", says, "The first producer of this version registers it"))
    return findings


def _judge_rule(subject: str, rule: str | None) -> Finding:
    if rule in _STRICT:
        return ok("compatibility", f"{subject} has {rule}")
    says = f"{subject} has {rule or 'no rule of its own'}: an older reader may not understand"
    return fail("compatibility", says, f"Set the subject's compatibility to {COMPATIBILITY}")


def _check_golden(name: str, folder: Path) -> Finding:
    """Whether each value decodes by its schema, to what was hashed and was written."""
    paths = sorted(folder.glob("*.bin"))
    if not paths:
        return fail("golden", f"{folder} has no golden files of {name}", "Name their folder")
    for path in paths:
        problem = _problem(path.read_bytes(), name)
        if problem is not None:
            do = "Values in people's logs look like this one: mend the schema, not the file"
            return fail("golden", f"{path}: {problem}", do)
    return ok("golden", f"{len(paths)} of {name} decode")


def _problem(value: bytes, name: str) -> str | None:
    if not value.startswith(frame()[:2] + schema_fingerprint(name)):
        return f"it is not framed as {name}"
    try:
        fragment = decode(value)
    except DecodeError as error:
        return str(error)
    for snapshot in fragment.snapshots:
        made = decoded_hash(fragment.kind, fragment.event_id or 0, snapshot)
        if made != snapshot["content_hash"]:
            return "its content hash is another"
    if name == CURRENT_SCHEMA and encode(fragment) != value:
        return "it is encoded to other bytes now"
    return None
