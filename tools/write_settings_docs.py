"""Writes docs/SETTINGS.md from the declarations in `appliance.settings`."""

from __future__ import annotations

from pathlib import Path

from appliance.settings_text import format_settings_table

HEAD = """# Settings

All settings live in one file, `thermocline.toml`; `thermocline init` writes one with every default
in a comment. A variable of the environment overrides the file, with commas between the items of a
list. Sizes may be written as `"30GB"` or `"30GiB"`, durations as `"90s"` or `"12h"`. A path that
begins with `<data>` lies in `appliance.data`; any other relative path starts at the file's
directory. An unknown setting is an error. `[[volume]]` comes once per volume; in the environment
`<n>` is its number, from 1.

"""


def main() -> None:
    """Write the page in the checkout this tool lies in."""
    target = Path(__file__).parents[1] / "docs" / "SETTINGS.md"
    target.write_text(HEAD + format_settings_table(), encoding="utf-8")


if __name__ == "__main__":
    main()
