"""The long list of the import laws (tests/unit/test_import_laws.py)."""

__all__ = ["PURE_IMPORTS"]

# What a pure module may import beside our own pure ones.
PURE_IMPORTS = {
    "base64",
    "bisect",
    "collections",
    "copy",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fastavro",
    "functools",
    "hashlib",
    "html",
    "io",
    "itertools",
    "json",
    "math",
    "operator",
    "orjson",
    "random",
    "re",
    "struct",
    "typing",
    "uuid",
    "zlib",
}
