"""The Avro schemas, one file a record and version; never edited after a release."""
