"""The frame of a report as one HTML file: its style, and nothing from anywhere else.

No script, no font, no image and no address is loaded, and a content security policy says so to the
browser as well: a page that was sent on cannot tell anybody that it was opened.
"""

from __future__ import annotations

from html import escape

__all__ = ["wrap_page"]

_STYLE = """
:root {
  color-scheme: light dark;
  --page: #f5f6f7; --card: #ffffff; --ink: #1c2126; --soft: #5d6770; --line: #e1e5e9;
  --ssd: #1f6f8b; --hdd: #a05a2c; --good: #2f7d5b; --warn: #a86a00; --bad: #b3362b;
  --c1: #dfe7ec; --c2: #c3d3dc; --c3: #9fbccb; --c4: #7ba3b7; --c5: #5a8aa3;
  --h1: #4a6fa5; --h2: #6487b0; --h3: #809fba; --h4: #9db5c2; --h5: #bac8c8;
  --h6: #d6c9a9; --h7: #dfb483; --h8: #dd9763; --h9: #d27449; --h10: #bf4a30;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14181b; --card: #1d2327; --ink: #e7ebee; --soft: #98a3ac; --line: #323b42;
    --ssd: #63b4cf; --hdd: #d9935f; --good: #5fbf92; --warn: #dba545; --bad: #ee7f72;
    --c1: #2a343b; --c2: #37474f; --c3: #4b6472; --c4: #638799; --c5: #86aec2;
    --h5: #7f8f92; --h6: #b3a27c; --h4: #7c97a6; --h3: #6c8ead; --h2: #5b80b1; --h1: #4d74b3;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 1180px; padding: 28px 24px 40px; background: var(--page);
  color: var(--ink); font: 14px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif;
  font-variant-numeric: tabular-nums;
}
header h1 { margin: 0; font-size: 26px; font-weight: 650; letter-spacing: -0.01em; }
header p { margin: 2px 0 18px; color: var(--soft); }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 20px 20px; margin: 0 0 16px;
}
h2 { margin: 0 0 2px; font-size: 16px; font-weight: 650; }
h3 { margin: 0; font-size: 14px; font-weight: 650; }
.note, .soft, footer { color: var(--soft); }
.note { margin: 0 0 12px; max-width: 90ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px; }
.tiles { margin: 0 0 16px; }
.tile {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px;
}
.tile b { display: block; font-size: 24px; font-weight: 650; letter-spacing: -0.01em; }
.tile b.good { color: var(--good); } .tile b.warn { color: var(--warn); }
.tile b.bad { color: var(--bad); }
.tile span { color: var(--soft); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(430px, 1fr)); gap: 16px; }
.pair section { margin: 0; } .pair { margin: 0 0 16px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th { text-align: left; font-weight: 600; color: var(--soft); white-space: nowrap; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); }
td { white-space: nowrap; } tr:last-child td { border-bottom: 0; }
.balance th, .balance td { padding-right: 28px; } .balance th.n { line-height: 1.3; }
.n { text-align: right; } tr.sum td { font-weight: 650; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: var(--ink); }
svg text.soft { fill: var(--soft); } svg .end { text-anchor: end; }
svg .middle { text-anchor: middle; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 6px 0 0; color: var(--soft); }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; }
.legend i { margin-right: 6px; vertical-align: -1px; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 10px; }
.facts { margin: 0; } .facts dt { color: var(--soft); } .facts dd { margin: 0; }
footer { padding: 4px 4px 0; max-width: 100ch; }
@media print { body { background: none; } section, .tile { break-inside: avoid; } }
@media (max-width: 520px) { .pair { grid-template-columns: 1fr; } body { padding: 16px 12px; } }
"""


def wrap_page(title: str, body: str) -> str:
    """A whole page.

    Args:
        title: Plain text.
        body: HTML, whatever was foreign in it escaped already.
    """
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy"'
        " content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )
