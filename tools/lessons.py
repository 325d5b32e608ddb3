"""Run every lesson in docs/lessons where its pictures are kept, so that they are drawn anew.

Outputs that differ from a page's are printed; tests/unit/test_docs.py is what checks them.
"""

from __future__ import annotations

import doctest
import os
import re
from pathlib import Path

LESSONS = Path(__file__).parent.parent / "docs" / "lessons"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def run(page: Path) -> None:
    """Execute the blocks of a page in one namespace."""
    scope: dict[str, object] = {"__name__": page.stem}
    for source in BLOCK.findall(page.read_text(encoding="utf-8")):
        if ">>> " in source:
            session = doctest.DocTestParser().get_doctest(source, scope, page.name, str(page), 0)
            doctest.DocTestRunner(optionflags=FLAGS).run(session, clear_globs=False)
            scope.update(session.globs)
        else:
            exec(compile(source, str(page), "exec"), scope)


if __name__ == "__main__":
    os.chdir(LESSONS / "pictures")
    for lesson in sorted(LESSONS.glob("*.md")):
        print(lesson.name)
        run(lesson)
