"""Every piece of Python in the README, the docs and the pages of checks does what it shows."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LESSONS = ROOT / "docs" / "lessons"
CHECKS = ROOT / "src" / "fanin" / "auditing" / "pages"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(CHECKS.glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
PICTURE = re.compile(r"!\[[^\]]*\]\(pictures/([^)]+)\)")


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": page.stem}  # shared by the blocks of a page
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        run(match[1], namespace, page, line)
    if page.parent == LESSONS:
        assert sorted(PICTURE.findall(text)) == sorted(made.name for made in tmp_path.glob("*.png"))


def test_every_picture_is_in_a_lesson() -> None:
    """Where a page changed and a picture is old: python tools/lessons.py."""
    shown = [
        name for page in LESSONS.glob("*.md") for name in PICTURE.findall(page.read_text("utf-8"))
    ]
    assert sorted(shown) == sorted(kept.name for kept in (LESSONS / "pictures").iterdir())


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
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
