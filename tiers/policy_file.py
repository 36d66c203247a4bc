"""Policy files: TOML in, a `Policy` out, or every fault with its line and column. Pure.

docs/TIERING.md has the fields for operators; docs/decisions/0010-policy-file.md says what TIERING
4.2 leaves open. The numbers of the checks that look at several fields are in `tiers.policy_rules`.
"""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, cast
from zoneinfo import available_timezones

from tiers import policy
from tiers.errors import PolicyFault, PolicyInvalid
from tiers.policy import (
    Budget,
    Demote,
    Exclude,
    Filter,
    Heat,
    Managed,
    Pin,
    Policy,
    Promote,
    Rule,
    Sequential,
    Thresholds,
    Tier,
    Transition,
    Weight,
)
from tiers.policy_reader import FaultList, Table, show_name
from tiers.policy_rules import check_rules
from tiers.toml_positions import PositionIndex
from tiers.windows import DURATION_S_MAX, DURATION_S_MIN, CronInvalid, Window, parse_cron

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tiers.policy import Action, Rate

__all__ = [
    "POLICY_BYTES_MAX",
    "VERSION",
    "CheckedPolicy",
    "parse_policy",
    "read_budget",
    "read_document",
    "read_rules",
    "take_version",
]

VERSION = 1
POLICY_BYTES_MAX = 64 * 1024  # some three hundred rules; a parse of it stays below 50 ms
RULES_MAX = 256  # each page may be asked of each rule
TIERS_MAX = 8
WINDOWS_MAX = 32
TAGS_MAX = 10  # S3 lets an object have no more

KEY_PARTS_MAX = 16  # the deepest known key, rule.filter.tag.x, has four
_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
# Wherever it stands, in a text too: tomllib's time grows with the square of a key's parts.
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-])(?:{_PART}[ \t]*\.[ \t]*){{{KEY_PARTS_MAX}}}")
_OPENERS_MAX = 2_000  # brackets and braces; nested ones cost the parser a stack frame each
_PLACE = re.compile(r"(.*) \(at (?:line ([0-9]+), column ([0-9]+)|end of document)\)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_RULE = "letters, digits, dot, dash, underscore; at most 64, the first a letter or digit"

_MOVE_KEYS = {
    "demote": ("threshold", "weight", "min_age", "cooling", "limit"),
    "promote": ("insertion_threshold", "ghost", "hysteresis", "stop_above", "min_residency"),
    "transition": ("transition_days", "window"),
}
_REMOTE_FIELDS = ("endpoint", "bucket", "verify")
_SECRETS = ("access_key", "secret_key", "access_key_id", "secret_access_key", "password", "token")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPolicy:
    """A valid policy and what is doubtful about it."""

    policy: Policy
    warnings: tuple[PolicyFault, ...]


def parse_policy(
    data: bytes, *, file: str = "policy", tier_bytes: Mapping[str, int] | None = None
) -> CheckedPolicy:
    """The policy of a file.

    Args:
        data: The file's bytes.
        file: Its name, for the messages.
        tier_bytes: Sizes of the tiers there are; with them pins are checked, and that the tiers
            exist.

    Raises:
        PolicyInvalid: With everything that is wrong, or the first thing where it is no TOML.
    """
    root = read_document(data, file=file)
    faults = root.faults
    take_version(root)
    tiers = _read_tiers(root, tier_bytes)
    heat = _read_heat(root.take_table("heat"))
    budget = read_budget(root.take_table("budget"), Budget())
    windows = _read_windows(root)
    rules = read_rules(root, tiers, {window.name for window in windows})
    if not root.has("rule"):
        rules = _default_rules(root, tiers)
    hint = "belongs into a tenant's overlay, not into the policy of the appliance"
    root.finish(hints={"tenant": hint})
    if not faults.faults:
        check_rules(rules, tiers, faults, tier_bytes=tier_bytes)
    if faults.faults:
        raise PolicyInvalid(file, faults.faults)
    made = Policy(
        tiers=tuple(tiers.values()), heat=heat, budget=budget, windows=windows, rules=tuple(rules)
    )
    return CheckedPolicy(policy=made, warnings=faults.warnings)


def read_document(data: bytes, *, file: str) -> Table:
    """The document as a table whose places are known.

    Raises:
        PolicyInvalid: Too long, no UTF-8, no TOML.
    """
    text = _decode(data, file)
    try:
        values = tomllib.loads(text)
    except RecursionError as error:
        raise _refuse(file, 1, 1, "nested too deeply") from error
    except ValueError as error:
        # tomllib's own errors, and numbers of too many digits, which Python refuses to read.
        raise _translate(error, text, file) from error
    return Table(values, (), FaultList(PositionIndex(text.replace("\r\n", "\n"))))


def _decode(data: bytes, file: str) -> str:
    if len(data) > POLICY_BYTES_MAX:
        raise _refuse(file, 1, 1, f"longer than {POLICY_BYTES_MAX} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        raise _refuse(file, line, column, "not UTF-8") from error
    if text.startswith("\ufeff"):
        raise _refuse(file, 1, 1, "begins with a byte order mark; save it as UTF-8 without one")
    deep = _LONG_KEY.search(text)
    if deep is not None:
        line = text.count("\n", 0, deep.start()) + 1
        raise _refuse(file, line, 1, f"more than {KEY_PARTS_MAX} names joined by dots")
    if text.count("[") + text.count("{") > _OPENERS_MAX:
        raise _refuse(file, 1, 1, f"more than {_OPENERS_MAX} brackets")
    return text


def _refuse(file: str, line: int, column: int, rule: str) -> PolicyInvalid:
    return PolicyInvalid(file, [PolicyFault(line=line, column=column, key="", rule=rule)])


def _translate(error: ValueError, text: str, file: str) -> PolicyInvalid:
    match = _PLACE.fullmatch(str(error))
    if match is None:
        return _refuse(file, 1, 1, f"no TOML: {str(error)[:200]}")
    if match[2] is None:
        line = text.count("\n") + 1
        return _refuse(file, line, len(text) - (text.rfind("\n") + 1) + 1, f"no TOML: {match[1]}")
    return _refuse(file, int(match[2]), int(match[3]), f"no TOML: {match[1][:200]}")


def take_version(root: Table) -> None:
    """Refuse a document of another version, and one that does not say which it is."""
    if not root.has("version"):
        root.refuse("version", f"is required: version = {VERSION}")
    root.take_count("version", VERSION, low=VERSION, high=VERSION)


def _read_tiers(root: Table, tier_bytes: Mapping[str, int] | None) -> dict[str, Tier]:
    tables = root.take_tables("tier", count_max=TIERS_MAX)
    if not tables:
        default = policy.default_policy().tiers
        return {tier.name: tier for tier in default}
    tiers: dict[str, Tier] = {}
    classes: set[str] = set()
    for table in tables:
        tier = _read_tier(table)
        if tier.name in tiers:
            table.refuse("name", f"the tier {tier.name} is there already")
        if tier.storage_class in classes:
            table.refuse("storage_class", f"{tier.storage_class} is another tier's already")
        if tier_bytes is not None and tier.name not in tier_bytes:
            known = table.suggest("", tier_bytes)
            table.refuse("name", f"no volume is of the tier {show_name(tier.name)}{known}")
        tiers[tier.name] = tier
        classes.add(tier.storage_class)
    return tiers


def _read_tier(table: Table) -> Tier:
    kind = table.take_choice("kind", ("pages", "s3", "far"), "pages")
    tier = Tier(
        name=_take_name(table, "name"),
        storage_class=table.take_text("storage_class", bytes_max=64),
        keep_free_share=table.take_share("keep_free_space", 0.05, high=0.5),
        write_budget_bytes_per_day=_size_or_none(table, "write_budget_per_day", low=1),
        run_bytes=_size(table, "run_size", 64 * policy.MIB, low=policy.MIB),
    )
    secrets = 'secrets are named by reference only: credentials = "file:..." or "env:..."'
    if kind in {"s3", "far"}:
        _read_remote(table)
        table.refuse("kind", f"tiers of kind {kind} are not in this version; leave it out")
    table.finish(hints=dict.fromkeys(_SECRETS, secrets))
    return tier


def _read_remote(table: Table) -> None:
    """The fields of a remote tier, so that their faults are named beside the refusal."""
    for name in _REMOTE_FIELDS:
        table.take_text(name, "-")
    for name in ("pack_size", "part_size"):
        table.take_size(name, 0, low=policy.MIB)
    table.take_share("unreclaimed_space_threshold", 0.2)
    if not table.take_text("credentials", "env:X").startswith(("file:", "env:")):
        table.refuse("credentials", 'name a reference: "file:..." or "env:..."')


def _read_heat(table: Table) -> Heat:
    half_life = table.take_duration("half_life", None, low=60.0, words=("auto",))
    sequential = table.take_table("sequential")
    heat = Heat(
        half_life_s=half_life if isinstance(half_life, float) else None,
        coalesce_s=_duration(table, "coalesce", 60.0),
        write_heat=table.take_number("write_heat", 1.0, low=0.0, high=16.0),
        sequential=Sequential(
            cutoff_bytes=_size(sequential, "cutoff", 32 * policy.MIB, low=policy.MIB),
            weight=sequential.take_number("weight", 0.0, low=0.0, high=1.0),
            promote_after_scans=sequential.take_count("promote_after_scans", 3, low=0, high=1000),
        ),
    )
    sequential.finish()
    table.finish()
    return heat


def read_budget(table: Table, base: Budget) -> Budget:
    """A budget; what it does not say is `base`'s."""
    budget = Budget(
        foreground_p99_slowdown_max=table.take_number(
            "foreground_p99_slowdown_max", base.foreground_p99_slowdown_max, low=1.0, high=10.0
        ),
        hdd_bytes_per_s=_rate(table, "hdd_bytes_per_sec", base.hdd_bytes_per_s),
        ssd_write_bytes_per_s=_rate(table, "ssd_write_bytes_per_sec", base.ssd_write_bytes_per_s),
        max_inflight=table.take_count("max_inflight", base.max_inflight, low=1, high=64),
        io_bytes=_size(table, "io_size", base.io_bytes, low=64 * policy.KIB),
    )
    if budget.io_bytes > 4 * policy.MIB:
        table.refuse("io_size", "at most 4MiB: one transfer must not hold a disk's arm for longer")
    table.finish()
    return budget


def _read_windows(root: Table) -> tuple[Window, ...]:
    windows: dict[str, Window] = {}
    for table in root.take_tables("window", count_max=WINDOWS_MAX):
        window = _read_window(table)
        if window is not None:
            if window.name in windows:
                table.refuse("name", f"the window {window.name} is there already")
            windows[window.name] = window
    return tuple(windows.values())


def _read_window(table: Table) -> Window | None:
    name = _take_name(table, "name")
    line = table.take_text("cron", bytes_max=400)
    duration = _duration(table, "duration", 0.0, low=DURATION_S_MIN)
    if duration > DURATION_S_MAX:
        table.refuse("duration", "at most 7d")
    if not table.has("duration"):
        table.refuse("duration", "is required")
    zone = table.take_text("tz", "UTC", bytes_max=64)
    if zone != "UTC" and zone not in _list_zones():
        table.refuse("tz", f"no time zone is called so{table.suggest(zone, _list_zones())[:80]}")
        zone = "UTC"
    rates = {
        name: _rate(table, name, None) if table.has(name) else None
        for name in ("hdd_bytes_per_sec", "ssd_write_bytes_per_sec")
    }
    table.finish()
    if not line:
        return None
    try:
        cron = parse_cron(line)
    except CronInvalid as error:
        table.refuse("cron", str(error))
        return None
    return Window(
        name=name,
        cron=cron,
        duration_s=duration,
        zone=zone,
        hdd_bytes_per_s=rates["hdd_bytes_per_sec"],
        ssd_write_bytes_per_s=rates["ssd_write_bytes_per_sec"],
    )


@functools.cache
def _list_zones() -> frozenset[str]:
    """Names of all time zones; looking for them reads the whole database of zones."""
    return frozenset(available_timezones())


def read_rules(root: Table, tiers: Mapping[str, Tier], windows: set[str]) -> list[Rule]:
    """Every rule, in order; ids are unique."""
    rules: list[Rule] = []
    ids: set[str] = set()
    for table in root.take_tables("rule", count_max=RULES_MAX):
        rule_id = _take_name(table, "id")
        if rule_id in ids:
            table.refuse("id", f"the rule {rule_id} is there already")
        ids.add(rule_id)
        rule_filter = _read_filter(table)
        action = _read_action(table, tiers, windows)
        if action is not None:
            rules.append(Rule(id=rule_id, filter=rule_filter, action=action))
    return rules


def _default_rules(root: Table, tiers: Mapping[str, Tier]) -> list[Rule]:
    """The rules of a file without any: the fields' defaults between neighbouring tiers."""
    moves: list[Rule] = []
    names = list(tiers)
    for upper, lower in pairwise(names):
        empty = Table({}, root.path, root.faults)
        suffix = "" if upper == names[0] else f"-{upper}"
        demote = _read_demote(empty, upper, lower, tiers[upper])
        promote = _read_promote(empty, lower, upper, tiers[upper])
        moves += [
            Rule(id=f"demote{suffix}", action=demote),
            Rule(id=f"promote{suffix}", action=promote),
        ]
    return [*moves, Rule(id="default", action=Managed())]


def _read_filter(rule: Table) -> Filter:
    table = rule.take_table("filter")
    above = _size_or_none(table, "object_size_greater_than")
    below = _size_or_none(table, "object_size_less_than", low=1)
    for name, inner in (("object_size_greater_than", above), ("object_size_less_than", below)):
        # The two stand in a rule as well, as in the rules of S3's lifecycle.
        outer = _size_or_none(rule, name)
        if outer is not None and inner is not None:
            rule.refuse(name, f"stands in the filter already, as {inner} bytes")
    above = above if above is not None else _size_or_none(rule, "object_size_greater_than")
    below = below if below is not None else _size_or_none(rule, "object_size_less_than")
    if above is not None and below is not None and above + 1 >= below:
        table.refuse("object_size_less_than", "no size is above the one and below the other limit")
    made = Filter(
        tenant=table.take_text("tenant", "", bytes_max=64) or None,
        bucket=table.take_text("bucket", "", bytes_max=64) or None,
        prefix=table.take_text("prefix", "") or None,
        tags=table.take_texts("tag", count_max=TAGS_MAX),
        object_bytes_above=above,
        object_bytes_below=below,
    )
    if made.bucket is not None and made.tenant is None:
        table.refuse("bucket", "name its tenant as well: bucket names are the tenants' own")
    table.finish()
    return made


def _read_action(table: Table, tiers: Mapping[str, Tier], windows: set[str]) -> Action | None:
    kinds = [name for name in ("pin", "exclude", "managed") if table.has(name)]
    is_move = table.has("from_pool") or table.has("to_pool")
    if len(kinds) + is_move != 1:
        table.faults.refuse(
            table.path, "a rule is one of: pin, exclude, managed, from_pool with to_pool"
        )
        return None
    action: Action | None
    if is_move:
        action = _read_move(table, tiers, windows)
    elif kinds == ["pin"]:
        action = Pin(
            tier=_take_tier(table, "pin", tiers),
            limit_bytes=_size_or_none(table, "pin_limit", low=1),
        )
    else:
        action = Exclude() if kinds == ["exclude"] else Managed()
        if table.take_flag(kinds[0]) is False:
            table.refuse(kinds[0], "write true, or leave the rule out")
    table.finish(hints=_hints_for(action))
    return action


def _hints_for(action: Action | None) -> dict[str, str]:
    """What to say of fields that other kinds of rules have."""
    hints = {"pin_limit": "belongs to rules with pin"}
    own = {Demote: "demote", Promote: "promote", Transition: "transition"}.get(type(action), "")
    for kind, names in _MOVE_KEYS.items():
        if kind != own:
            hints |= dict.fromkeys(names, f"belongs to rules that {kind}, this one does not")
    return hints


def _read_move(table: Table, tiers: Mapping[str, Tier], windows: set[str]) -> Action | None:
    source = _take_tier(table, "from_pool", tiers)
    target = _take_tier(table, "to_pool", tiers)
    if not source or not target:
        # The pools are wrong, and with them the meaning of the rest: take it without judging.
        for names in _MOVE_KEYS.values():
            for name in names:
                table.skip(name)
        return None
    order = list(tiers)
    if source == target:
        table.refuse("to_pool", f"is from_pool as well ({source})")
        return None
    is_down = order.index(target) > order.index(source)
    if table.has("transition_days"):
        if not is_down:
            table.refuse("to_pool", f"{target} is faster than {source}; transitions go down only")
        return _read_transition(table, source, target, windows)
    if is_down:
        return _read_demote(table, source, target, tiers[source])
    return _read_promote(table, source, target, tiers[target])


def _read_transition(table: Table, source: str, target: str, windows: set[str]) -> Transition:
    window = table.take_text("window", "", bytes_max=64) or None
    if window is not None and window not in windows:
        table.refuse(
            "window", f"no window is called {show_name(window)}{table.suggest(window, windows)}"
        )
    return Transition(
        source=source,
        target=target,
        days=table.take_count("transition_days", 1, low=1, high=36_500),
        window=window,
    )


def _read_demote(table: Table, source: str, target: str, tier: Tier) -> Demote:
    fill_max = 1.0 - tier.keep_free_share
    levels = table.take_table("threshold")
    high = levels.take_share("high", fill_max)
    low = levels.take_share("low", max(high - 0.001, high / 2))
    premigrate = levels.take_share("premigrate", min(0.80, low))
    levels.finish()
    # A share is a sum of decimals; a billionth is no difference.
    if high > fill_max + 1e-9:
        shown = f"{fill_max:g}, which is 1 - keep_free_space of {source}"
        levels.refuse("high", f"{high:g} is above {shown}")
    if not low < high:
        levels.refuse("low", f"{low:g} is not below high ({high:g})")
    if low <= 0.0:
        levels.refuse("low", f"0 would demote everything on {source}")
    if premigrate > low:
        levels.refuse("premigrate", f"{premigrate:g} is above low ({low:g})")
    limit = table.take_share("limit", 0.95)
    if limit <= 0.0:
        table.refuse("limit", "must be above 0: nothing could be moved")
    return Demote(
        source=source,
        target=target,
        thresholds=Thresholds(high=high, low=low, premigrate=premigrate),
        weight=Weight(table.take_choice("weight", list(Weight), None) or Weight.COLDEST_FIRST),
        min_age_s=_duration(table, "min_age", policy.DEFAULT_MIN_AGE_S),
        cooling_s=_duration(table, "cooling", policy.DEFAULT_COOLING_S),
        limit=limit,
    )


def _read_promote(table: Table, source: str, target: str, tier: Tier) -> Promote:
    fill_max = 1.0 - tier.keep_free_share
    return Promote(
        source=source,
        target=target,
        insertion_threshold=table.take_count("insertion_threshold", 1, low=1, high=16),
        ghost=table.take_times("ghost", 2.0, low=0.1, high=16.0),
        hysteresis=table.take_number("hysteresis", 0.3, low=0.0, high=16.0),
        stop_above=table.take_share("stop_above", fill_max + (1.0 - fill_max) * 0.4),
        min_residency_s=_duration(table, "min_residency", policy.DEFAULT_MIN_RESIDENCY_S),
    )


def _take_name(table: Table, name: str) -> str:
    text = table.take_text(name)
    if text and _NAME.fullmatch(text) is None:
        table.refuse(name, f"{text[:64]!r}: {_NAME_RULE}")
    return text


def _take_tier(table: Table, name: str, tiers: Mapping[str, Tier]) -> str:
    """The name of a tier that exists; empty where it does not, which is noted."""
    text = table.take_text(name)
    if text and text not in tiers:
        table.refuse(name, f"no tier is called {show_name(text)}{table.suggest(text, tiers)}")
        return ""
    return text


def _size(table: Table, name: str, default: int, *, low: int = 0) -> int:
    size = table.take_size(name, default, low=low)
    return size if isinstance(size, int) else default


def _size_or_none(table: Table, name: str, *, low: int = 0) -> int | None:
    size = table.take_size(name, None, low=low)
    return size if isinstance(size, int) else None


def _duration(table: Table, name: str, default: float, *, low: float = 0.0) -> float:
    seconds = table.take_duration(name, default, low=low)
    return seconds if isinstance(seconds, float) else default


def _rate(table: Table, name: str, default: Rate | None) -> Rate:
    rate = table.take_size(name, default, low=policy.MIB, words=("auto", "unlimited"))
    assert rate is not None or default is None
    return cast("int | Literal['auto', 'unlimited']", rate if rate is not None else "auto")
