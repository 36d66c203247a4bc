"""Writes the table of settings in README.md from the declarations in `appliance.settings`."""

from __future__ import annotations

from pathlib import Path

from appliance.settings_text import describe_settings

__all__ = ["README_SETTINGS", "render_readme"]

README = Path(__file__).parents[1] / "README.md"
BEGIN = "<!-- settings: written by tools/write_readme.py -->\n"
END = "<!-- end of settings -->\n"

# What a new appliance looks at; docs/SETTINGS.md has every setting.
README_SETTINGS = (
    "appliance.data",
    "appliance.workers",
    "s3.listen",
    "s3.domains",
    "s3.region",
    "s3.tls_certificate",
    "s3.tls_key",
    "s3.allow_plain_http",
    "metrics.listen",
    "catalog.url",
    "volume.path",
    "volume.tier",
    "volume.keep_free",
    "memory.buffer_bytes",
    "reclaim.grace_s",
    "log.format",
)


def render_readme(text: str) -> str:
    """The README with its table of settings as the code has it.

    Raises:
        ValueError: The marks around the table are missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("README.md has lost the marks around the table of settings")
    docs = {doc.name: doc for doc in describe_settings()}
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for name in README_SETTINGS:
        doc = docs[name]
        default = f"`{doc.default}`" if doc.default else "required" if doc.is_required else "unset"
        lines.append(f"| `{name}` | {default} | {doc.meaning} |")
    return before + begin + "\n".join(lines) + "\n" + end + after


def main() -> None:
    """Write the README of the checkout this tool lies in."""
    README.write_text(render_readme(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
