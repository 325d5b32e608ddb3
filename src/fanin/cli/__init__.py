"""The `fanin` command: parse, call the library, print."""

from __future__ import annotations

from fanin.cli.app import app, main

__all__ = ["app", "main"]
