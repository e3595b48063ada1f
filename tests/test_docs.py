"""The code in the documentation runs, and its links lead somewhere.

Every block that starts with ```python is executed, the blocks of a file in order in one process of their own, in an
empty folder. Blocks with more words after `python` (```python no-run) are not.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.software_gpu import gpu_fixture  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(path for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")] if path.exists())
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
SECONDS = 300


def program_of(text: str) -> str:
    """The page with everything but its Python blocks blanked out: line numbers stay those of the page."""
    lines, fence, runs, indent = [], "", False, ""
    for line in text.splitlines():
        marker = re.match(r"(\s*)(`{3,})(.*)", line)
        if not fence and marker:
            indent, fence = marker[1], marker[2]
            runs = marker[3].strip() == "python"
            lines.append("")
        elif fence and marker and marker[2].startswith(fence) and not marker[3].strip():
            fence, runs = "", False
            lines.append("")
        else:
            lines.append(line.removeprefix(indent) if runs else "")
    if fence:
        raise ValueError("a code block is not closed")
    return "\n".join(lines) + "\n"


def anchors_of(text: str) -> set[str]:
    """The names by which GitHub links to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_code_runs(page, tmp_path, request):
    program = program_of(page.read_text(encoding="utf-8"))
    if 'backend="wgpu"' in program:
        request.getfixturevalue("gpu")  # skips where there is no adapter
    script = tmp_path / f"{page.stem}.py"
    script.write_text(program, encoding="utf-8")
    folder = tmp_path / "empty"
    folder.mkdir()
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    result = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert result.returncode == 0, f"{page.name} (line numbers are those of the page):\n{result.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{page.name} links to {target}, which does not exist"
        if anchor and linked.suffix == ".md":
            assert anchor in anchors_of(linked.read_text(encoding="utf-8")), f"{page.name}: no heading {target}"


def test_only_python_blocks_are_kept_on_their_lines():
    page = "# Title\n```python\na = 1\n```\ntext\n```python no-run\nb = 2\n```\n```text\nc\n```\n- item\n  ```python\n  d = 4\n  ```\n"
    kept = {number: line for number, line in enumerate(program_of(page).splitlines(), start=1) if line}
    assert kept == {3: "a = 1", 14: "d = 4"}


def test_a_block_that_is_not_closed():
    with pytest.raises(ValueError, match="not closed"):
        program_of("```python\na = 1\n")


def test_there_is_documentation():
    assert "docs/index.md" in NAMES
