from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import get_type_hints

import pytest
from pydantic import TypeAdapter

from appliance.settings import SECTIONS, Settings
from appliance.settings_text import SettingDoc, describe_settings, format_settings_table

DOCS = describe_settings()
TABLE = Path(__file__).parents[2] / "docs" / "SETTINGS.md"


def test_every_setting_is_described_once() -> None:
    declared = [
        f"{section}.{setting.name}"
        for section, record in SECTIONS.items()
        for setting in dataclasses.fields(record)
    ]

    assert [doc.name for doc in DOCS] == declared
    assert len({doc.environment for doc in DOCS}) == len(declared)


def test_every_section_is_a_part_of_the_settings() -> None:
    parts = {setting.name for setting in dataclasses.fields(Settings)} - {"source"}

    assert {"volumes" if section == "volume" else section for section in SECTIONS} == parts


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: doc.name)
def test_a_setting_has_a_meaning_and_a_variable(doc: SettingDoc) -> None:
    assert re.fullmatch(r"[A-Z].{8,}\.", doc.meaning)
    assert re.fullmatch(r"THERMOCLINE_[A-Z0-9]+_(<n>_)?[A-Z0-9_]+", doc.environment)
    assert doc.is_required == (doc.name in {"volume.path", "volume.tier"})


@pytest.mark.parametrize("doc", [doc for doc in DOCS if doc.default], ids=lambda doc: doc.name)
def test_a_name_says_the_unit_of_a_size(doc: SettingDoc) -> None:
    is_size = re.fullmatch(r'"[0-9]+([KMGT]i)?B"', doc.default) is not None

    assert is_size <= ("bytes" in doc.name or doc.name == "volume.keep_free")


def test_every_default_satisfies_its_own_rule() -> None:
    for record in SECTIONS.values():
        hints = get_type_hints(record, include_extras=True)
        for setting in dataclasses.fields(record):
            if setting.default is not dataclasses.MISSING:
                adapter: TypeAdapter[object] = TypeAdapter(hints[setting.name])
                assert adapter.validate_python(setting.default, strict=True) == setting.default


def test_the_written_table_is_the_one_that_the_settings_give() -> None:
    written = TABLE.read_text(encoding="utf-8")

    assert format_settings_table() in written, "run tools/write_settings_docs.py"
