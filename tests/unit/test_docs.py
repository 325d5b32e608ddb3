"""Every piece of Python in the README and the docs runs and does what it shows."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": page.stem}  # shared by the blocks of a page
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        run(match[1], namespace, page, line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)
    assert [target for target in targets if not (page.parent / target).exists()] == []


def run(source: str, namespace: dict[str, object], page: Path, line: int) -> None:
    """A session with prompts is compared with its output; anything else is executed."""
    if ">>> " not in source:
        # Padded, so that a traceback shows the page's own line.
        exec(compile("\n" * line + source, str(page), "exec"), namespace)
        return
    session = doctest.DocTestParser().get_doctest(source, namespace, page.name, str(page), line)
    report: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    doctest.DocTestRunner(optionflags=flags).run(session, out=report.append, clear_globs=False)
    namespace.update(session.globs)
    assert not report, "".join(report)
