"""Every kind of finding is documented, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

from appliance.fsck.records import KIND_FACTS, Kind

TEXT = (Path(__file__).parents[2] / "docs" / "OPERATING.md").read_text(encoding="utf-8")
SECTION = TEXT.split("## fsck\n")[1].split("\n## ")[0]


def test_the_kinds_of_the_documentation_are_those_that_exist() -> None:
    cells = [line.split("|")[1] for line in SECTION.splitlines() if line.startswith("| `")]

    assert set(re.findall(r"`([a-z-]+)`", " ".join(cells))) == {kind.value for kind in Kind}


def test_every_kind_has_a_meaning_and_a_remedy() -> None:
    assert set(KIND_FACTS) == set(Kind)
    for facts in KIND_FACTS.values():
        assert facts.meaning.endswith(".")
        assert facts.remedy.endswith(".")
