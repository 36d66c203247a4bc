"""What a tenant used in a month: as items of a bill, as a table, as a page."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

import click

from appliance.cli.output import MISSING, print_fields, print_table
from appliance.cli.report_page import wrap_page
from appliance.units import format_size
from tiers.report_columns import Column

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.admin.report_documents import TenantMonth

__all__ = ["MONTH_COLUMNS", "list_items", "render_month", "show_month"]

HOURS_OF_A_MONTH = 730  # as clouds count: 365 days in twelve parts

MONTH_COLUMNS = (
    Column(name="tenant", kind="text", meaning="Name of the tenant."),
    Column(name="month", kind="text", meaning="In UTC, as 2026-11."),
    Column(name="item", kind="text", meaning="`stored`, `requests` or `transfer`."),
    Column(
        name="detail",
        kind="text",
        meaning="Tier; class of requests (`read`, `write`, `list`, `delete`); `in` or `out`.",
    ),
    Column(name="quantity", kind="integer", meaning="How much; null where nothing was recorded."),
    Column(name="unit", kind="text", meaning="`byte-hours`, `requests` or `bytes`."),
    Column(name="from", kind="text", meaning="Since when it is recorded; null where nothing was."),
    Column(name="until", kind="text", meaning="Until when."),
)
"""One row an item: CSV and Parquet of `report tenant`."""


def list_items(month: TenantMonth) -> list[Mapping[str, object]]:
    """The items of a bill; `MONTH_COLUMNS` by name."""
    items: list[tuple[str, str | None, int | None, str, str | None, str | None]] = []
    if month.stored is None:
        items.append(("stored", None, None, "byte-hours", None, None))
    else:
        items += [
            (
                "stored",
                one.tier,
                one.byte_hours,
                "byte-hours",
                month.stored_from,
                month.stored_until,
            )
            for one in month.stored
        ]
    span = (month.counted_from, month.counted_until)
    items += [
        ("requests", detail, count, "requests", *span) for detail, count in _list_requests(month)
    ]
    items += [
        ("transfer", "in", month.received_bytes, "bytes", *span),
        ("transfer", "out", month.sent_bytes, "bytes", *span),
    ]
    return [
        {
            "tenant": month.tenant,
            "month": month.month,
            "item": item,
            "detail": detail,
            "quantity": quantity,
            "unit": unit,
            "from": since,
            "until": until,
        }
        for item, detail, quantity, unit, since, until in items
    ]


def _list_requests(month: TenantMonth) -> list[tuple[str, int | None]]:
    counted = month.requests
    if counted is None:
        return [(name, None) for name in ("read", "write", "list", "delete")]
    return [
        ("read", counted.reads),
        ("write", counted.writes),
        ("list", counted.lists),
        ("delete", counted.deletes),
    ]


def show_month(month: TenantMonth) -> None:
    """Print it for people."""
    print_fields(list(_heads(month)))
    click.echo()
    print_table(["ITEM", "DETAIL", "QUANTITY", "THAT IS"], _cells(month), right="QUANTITY")


def render_month(month: TenantMonth) -> str:
    """It as one page."""
    heads = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(_shorten_times(value))}</dd></div>"
        for name, value in _heads(month)
        if name not in {"tenant", "month"}
    )
    rows = "".join(
        f"<tr><td>{escape(item)}</td><td>{escape(detail)}</td>"
        f"<td class='n'>{escape(_group(quantity))}</td><td class='soft'>{escape(meaning)}</td></tr>"
        for item, detail, quantity, meaning in _cells(month)
    )
    return wrap_page(
        f"{month.tenant}, {month.month}",
        f"<header><h1>{escape(month.tenant)}</h1><p>What was used in {escape(month.month)}"
        f"{'' if month.is_complete else ', so far'}</p></header>"
        f"<section><dl class='facts'>{heads}</dl></section>"
        "<section><table><thead><tr><th>item</th><th>detail</th><th class='n'>quantity</th>"
        f"<th>that is</th></tr></thead><tbody>{rows}</tbody></table></section>"
        "<footer>Times are UTC. Stored bytes are those that S3 shows, integrated over hourly"
        " samples. Requests that the server failed are not counted; bytes are those of bodies."
        "</footer>",
    )


def _group(quantity: str) -> str:
    """The same with its digits in threes."""
    number, space, unit = quantity.partition(" ")
    return f"{int(number):,}{space}{unit}" if number.isdigit() else quantity


def _shorten_times(text: str) -> str:
    return re.sub(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\dZ", r"\1 \2", text)


def _heads(month: TenantMonth) -> list[tuple[str, str]]:
    return [
        ("tenant", month.tenant),
        ("month", f"{month.month} (UTC){'' if month.is_complete else ', not over yet'}"),
        (
            "stored",
            f"{month.stored_from} to {month.stored_until}"
            if month.stored_from
            else "nothing recorded",
        ),
        (
            "counted",
            f"{month.counted_from} to {month.counted_until}"
            if month.counted_from
            else "nothing recorded",
        ),
    ]


def _cells(month: TenantMonth) -> list[list[str]]:
    cells: list[list[str]] = []
    for item in list_items(month):
        quantity = item["quantity"]
        cells.append(
            [
                str(item["item"]),
                str(item["detail"] or MISSING),
                MISSING if quantity is None else f"{quantity} {item['unit']}",
                _say(str(item["unit"]), quantity),
            ]
        )
    return cells


def _say(unit: str, quantity: object) -> str:
    if not isinstance(quantity, int) or unit == "requests":
        return ""
    if unit == "bytes":
        return format_size(quantity)
    return f"{format_size(quantity // HOURS_OF_A_MONTH)} for a month of {HOURS_OF_A_MONTH} h"
