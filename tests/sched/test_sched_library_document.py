"""The example of docs/library.md runs, and prints what the document says."""

from __future__ import annotations

import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "library.md"


def test_the_example_prints_what_the_document_says(capsys):
    text = DOCUMENT.read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (printed,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    exec(compile(program, DOCUMENT.name, "exec"), {})
    assert capsys.readouterr().out == printed
