"""The README and the user's documents say what is so: tables, links, verbs, operations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from appliance.s3.operations import Operation
from tools.write_readme import render_readme

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
VERB = re.compile(r"`make ([a-z]+)`|^\$ make ([a-z]+)$", re.MULTILINE)


def test_the_table_of_settings_is_current() -> None:
    assert render_readme(README) == README, "run: make docs"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    links = LINK.findall(document.read_text(encoding="utf-8"))

    assert [link for link in links if not (document.parent / link).exists()] == []


def test_every_operation_is_in_the_matrix() -> None:
    matrix = README.partition("## S3 operations")[2].partition("\n## ")[0]

    named = set(re.findall(r"\b[A-Z][A-Za-z0-9]+\b", matrix))
    assert {kind.__name__ for kind in get_args(Operation)} <= named


def test_every_make_verb_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    verbs = set(re.findall(r"^([a-z]+):.*##", makefile, re.MULTILINE))
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert {first or second for first, second in VERB.findall(text)} <= verbs, document


def test_every_setting_variable_that_is_named_exists() -> None:
    known = (ROOT / "docs" / "SETTINGS.md").read_text(encoding="utf-8")
    known += "`THERMOCLINE_SOCKET` `THERMOCLINE_CONFIG`"
    for document in DOCUMENTS:
        if document.name == "SETTINGS.md":
            continue  # the source, with <n> in the names of a volume's variables
        named = set(re.findall(r"THERMOCLINE_[A-Z0-9_]+[A-Z0-9]", document.read_text("utf-8")))
        assert [name for name in named if f"`{name}`" not in known] == [], document
