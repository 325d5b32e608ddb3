"""The version of the stream: it changes when any drawn bit does."""

STREAM_VERSION = 1
