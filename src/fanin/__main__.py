"""`python -m fanin`."""

from __future__ import annotations

from fanin.cli import main

if __name__ == "__main__":
    main()
