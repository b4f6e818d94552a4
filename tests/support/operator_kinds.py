"""The Prometheus operator's kinds, as far as ours use them: its schemas are in no package."""

from typing import Any

import jsonschema

__all__ = ["OF_THE_OPERATOR", "take"]

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "minLength": 1}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
DURATION: Schema = {"type": "string", "pattern": "^([0-9]+(ms|[smhdwy]))+$"}


def closed(required: Schema, optional: Schema | None = None) -> Schema:
    """An object with these fields and no others: the operator drops what it does not know."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def several(one: Schema) -> Schema:
    """A list of at least one."""
    return {"type": "array", "items": one, "minItems": 1}


RULE = closed(
    {"alert": TEXT, "expr": TEXT},
    {"for": DURATION, "keep_firing_for": DURATION, "labels": TEXTS, "annotations": TEXTS},
)
ENDPOINT = closed({"port": TEXT}, {"path": TEXT, "interval": DURATION, "scrapeTimeout": DURATION})
OF_THE_OPERATOR = {
    "PrometheusRule": closed({"groups": several(closed({"name": TEXT, "rules": several(RULE)}))}),
    "ServiceMonitor": closed(
        {"selector": closed({"matchLabels": TEXTS}), "endpoints": several(ENDPOINT)}
    ),
}


def take(document: dict[str, Any]) -> None:
    """Take a resource as the operator would.

    Raises:
        jsonschema.ValidationError: what it does not know, or would refuse.
    """
    frame = closed(
        {
            "apiVersion": {"const": "monitoring.coreos.com/v1"},
            "kind": TEXT,
            "metadata": closed({"name": TEXT}, {"labels": TEXTS, "namespace": TEXT}),
            "spec": OF_THE_OPERATOR[document["kind"]],
        }
    )
    jsonschema.validate(document, frame)
