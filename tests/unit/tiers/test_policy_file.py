"""Each rule of a policy file, with the message that a broken one gets."""

from __future__ import annotations

import difflib

import pytest

from tests.unit.tiers.policies import FULL, changed
from tiers.errors import PolicyInvalid
from tiers.policy import (
    Demote,
    Exclude,
    Filter,
    Managed,
    Pin,
    Promote,
    RuleFacts,
    Thresholds,
    Transition,
    Weight,
    default_policy,
    evaluate,
)
from tiers.policy_file import POLICY_BYTES_MAX, parse_policy
from tiers.policy_reader import FAULTS_MAX

HEAD = "version = 1\n"
TIB = 1 << 40


def refusals(data: bytes | str, **sizes: int) -> list[str]:
    """The faults of a file, one line each."""
    encoded = data.encode() if isinstance(data, str) else data
    with pytest.raises(PolicyInvalid) as caught:
        parse_policy(encoded, file="p", tier_bytes=sizes or None)
    return str(caught.value).splitlines()


def warnings(data: bytes | str) -> list[str]:
    encoded = data.encode() if isinstance(data, str) else data
    return [warning.format("p") for warning in parse_policy(encoded, file="p").warnings]


def test_every_field_arrives_in_the_policy() -> None:
    checked = parse_policy(FULL.encode(), tier_bytes={"ssd": TIB, "hdd": 8 * TIB})
    made = checked.policy

    assert checked.warnings == ()
    assert [tier.name for tier in made.tiers] == ["ssd", "hdd"]
    assert made.tiers[0].write_budget_bytes_per_day == 2 * TIB
    assert made.tiers[1].run_bytes == 64 << 20
    assert made.heat.half_life_s == 3 * 86_400.0
    assert made.heat.sequential.cutoff_bytes == 32 << 20
    assert made.budget.ssd_write_bytes_per_s == 200 << 20
    assert made.budget.hdd_bytes_per_s == "auto"
    assert made.windows[0].zone == "Europe/Berlin"
    assert made.windows[0].hdd_bytes_per_s == "unlimited"
    assert made.windows[0].ssd_write_bytes_per_s is None
    actions = [rule.action for rule in made.rules]
    assert actions == [
        Pin(tier="ssd", limit_bytes=200 << 30),
        Exclude(),
        Transition(source="ssd", target="hdd", days=90, window="night"),
        Demote(
            source="ssd",
            target="hdd",
            thresholds=Thresholds(high=0.85, low=0.75, premigrate=0.65),
            weight=Weight.COLDEST_FIRST,
            min_age_s=3600.0,
            cooling_s=6 * 3600.0,
            limit=0.95,
        ),
        Promote(
            source="hdd",
            target="ssd",
            insertion_threshold=2,
            ghost=2.0,
            hysteresis=0.25,
            stop_above=0.90,
            min_residency_s=3600.0,
        ),
        Managed(),
    ]
    assert made.rules[2].filter == Filter(
        tags=(("retention", "cold"),), object_bytes_above=128 << 10
    )


def test_a_file_of_one_line_is_the_default_policy() -> None:
    assert parse_policy(HEAD.encode()).policy == default_policy()


def test_the_default_fill_levels_follow_the_room_that_is_kept_free() -> None:
    made = parse_policy(changed_tiers('keep_free_space = "10%"')).policy
    demote, promote = made.rules[0].action, made.rules[1].action

    assert isinstance(demote, Demote)
    assert isinstance(promote, Promote)
    assert demote.thresholds.high == pytest.approx(0.9)
    assert demote.thresholds.low < demote.thresholds.high < promote.stop_above < 1


def changed_tiers(field: str) -> bytes:
    fast = f'[[tier]]\nname = "a"\nstorage_class = "A"\n{field}\n'
    return (HEAD + fast + '[[tier]]\nname = "b"\nstorage_class = "B"\n').encode()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version = 1", "version = 2", "version: 2: write a whole number from 1 to 1"),
        (
            "insertion_threshold",
            "insertion_treshold",
            "rule[5].insertion_treshold: unknown key; did you mean insertion_threshold?",
        ),
        ("[budget]", "[bugdet]", "bugdet: unknown key; did you mean budget?"),
        ('name = "night"\n', 'name = "night"\ntz2 = 1\n', "window[1].tz2: unknown key"),
        ('"2TiB"', '"2T"', "tier[1].write_budget_per_day: '2T': unknown unit 'T'"),
        ('"64MiB"', "64", "tier[2].run_size: 64: write it with its unit, as a text"),
        ('"60s"', '"60"', "heat.coalesce: '60': write it with its unit, as a text"),
        ('"3d"', '"soon"', "heat.half_life: 'soon': write a duration as 90s, 12h, 30d"),
        ('"3d"', '"1s"', "heat.half_life: '1s': at least 60 seconds"),
        ('"5%"', '"5"', "tier[1].keep_free_space: '5': write a share such as 0.85 or \"85%\""),
        (
            "premigrate = 0.65",
            "premigrate = 0.80",
            "rule[4].threshold.premigrate: 0.8 is above low (0.75)",
        ),
        ("low = 0.75", "low = 0.85", "rule[4].threshold.low: 0.85 is not below high (0.85)"),
        (
            "high = 0.85",
            "high = 0.96",
            "rule[4].threshold.high: 0.96 is above 0.95, which is 1 - keep_free_space",
        ),
        (
            "low = 0.75, premigrate = 0.65",
            "low = 0.0, premigrate = 0.0",
            "rule[4].threshold.low: 0 would demote everything on ssd",
        ),
        ("stop_above = 0.90", "stop_above = 0.85", "must be above high of rule demote (0.85)"),
        ("stop_above = 0.90", "stop_above = 1.0", "rule[5].stop_above: 1: must be above 0 and"),
        ("limit = 0.95", "limit = 0", "rule[4].limit: must be above 0: nothing could be moved"),
        (
            'from_pool = "hdd"\nto_pool = "ssd"',
            'from_pool = "hdd"\nto_pool = "hdd"',
            "rule[5].to_pool: is from_pool as well (hdd)",
        ),
        (
            'from_pool = "hdd"\nto_pool = "ssd"',
            'from_pool = "hdd"\nto_pool = "sdd"',
            "rule[5].to_pool: no tier is called sdd; did you mean ssd?",
        ),
        (
            'from_pool = "hdd"\nto_pool = "ssd"',
            'from_pool = "ssd"\nto_pool = "hdd"',
            "insertion_threshold: belongs to rules that promote, this one does not",
        ),
        (
            'from_pool = "ssd"\nto_pool = "hdd"\ntransition_days',
            'from_pool = "hdd"\nto_pool = "ssd"\ntransition_days',
            "rule[3].to_pool: ssd is faster than hdd; transitions go down only",
        ),
        ("transition_days = 90", "transition_days = 0", "write a whole number from 1 to 36500"),
        (
            'weight = "-heat"',
            'weight = "heat"',
            (
                "rule[4].weight: E_THRASH: the hottest pages leave ssd and rule promote"
                ' brings them back; write "-heat"'
            ),
        ),
        ('weight = "-heat"', 'weight = "-hat"', "did you mean -heat?"),
        ('weight = "-heat"', 'weight = "age"', "'age' is none of those that are known"),
        (
            'filter = { tag = { retention = "hot" } }\n',
            "",
            (
                "rule[3]: E_THRASH: a page older than 90 days would leave ssd at once after"
                " rule promote promoted it"
            ),
        ),
        (
            'id = "default"\nfilter = {}',
            'id = "default"\nfilter = { prefix = "a" }',
            'rule[6]: the list must end with a rule for the rest: id = "default"',
        ),
        ("managed = true", "managed = false", "rule[6].managed: write true, or leave the rule out"),
        ("managed = true", "exclude = true", "the list must end with a rule for the rest"),
        ('id = "tmp"', 'id = "pin-wal"', "rule[2].id: the rule pin-wal is there already"),
        ('id = "tmp"', 'id = "t mp"', "rule[2].id: 't mp': letters, digits, dot, dash"),
        ('id = "tmp"\n', "", "rule[2].id: is required"),
        ('name = "hdd"', 'name = "ssd"', "tier[2].name: the tier ssd is there already"),
        ('"STANDARD_IA"', '"STANDARD"', "storage_class: STANDARD is another tier's already"),
        ('duration = "7h"', 'duration = "0s"', "window[1].duration: '0s': at least 60 seconds"),
        ('duration = "7h"', 'duration = "8d"', "window[1].duration: at most 7d"),
        ('duration = "7h"\n', "", "window[1].duration: is required"),
        ('"0 22 * * *"', '"0 25 * * *"', "window[1].cron: hour '25': 0 to 23"),
        ('"0 22 * * *"', '"0 22 * *"', "window[1].cron: 4 fields instead of 5"),
        ("Europe/Berlin", "Europe/Berlni", "window[1].tz: no time zone is called so; did you mean"),
        ('window = "night"', 'window = "nigth"', "no window is called nigth; did you mean night?"),
        (
            'tenant = "acme", bucket',
            "bucket",
            "rule[1].filter.bucket: name its tenant as well",
        ),
        (
            'object_size_greater_than = "4MiB"',
            'object_size_greater_than = "4MiB", object_size_less_than = "1MiB"',
            "no size is above the one and below the other limit",
        ),
        (
            "exclude = true",
            'exclude = true\nobject_size_greater_than = "4MiB"',
            "rule[2].object_size_greater_than: stands in the filter already",
        ),
        ("exclude = true", 'exclude = true\npin = "ssd"', "a rule is one of: pin, exclude"),
        ("exclude = true", "", "a rule is one of: pin, exclude, managed"),
        ("exclude = true", 'exclude = "yes"', "rule[2].exclude: 'yes': write true or false"),
        ("exclude = true", 'exclude = true\npin_limit = "1GiB"', "belongs to rules with pin"),
        ('pin = "ssd"', 'pin = "nvme"', "rule[1].pin: no tier is called nvme"),
        ('kind = "pages"', 'kind = "s3"', "tiers of kind s3 are not in this version"),
        ('kind = "pages"', 'kind = "far"', "tiers of kind far are not in this version"),
        ('kind = "pages"', 'kind = "page"', "did you mean pages?"),
        (
            'kind = "pages"',
            'kind = "s3"\nendpoint = "e"\nbucket = "b"\npack_size = "64"\nsecret_key = "s"',
            "tier[1].pack_size: '64': write it with its unit",
        ),
        ('kind = "pages"', 'secret_key = "s"', "secrets are named by reference only"),
        ('io_size = "4MiB"', 'io_size = "8MiB"', "budget.io_size: at most 4MiB"),
        ("max_inflight = 4", "max_inflight = 0", "write a whole number from 1 to 64"),
        ("max_inflight = 4", "max_inflight = true", "True: write a whole number"),
        ("max_inflight = 4", f"max_inflight = {'9' * 30}", "a number of 64 bits or more"),
        ("hysteresis = 0.25", "hysteresis = nan", "rule[5].hysteresis: nan: write a number"),
        ("hysteresis = 0.25", "hysteresis = -1", "rule[5].hysteresis: -1: write a number from 0"),
        ('ghost = "2.0x"', 'ghost = "2"', 'write a multiple such as "2.0x"'),
        ("write_heat = 1.0", "write_heat = 2026-01-01", "a date or time: write a number"),
        ("sequential = {", "sequential = 3 # {", "heat.sequential: 3: write a table"),
        ("version = 1\n", "version = 1\nrule = 3\n[x]\n", "write tables, each under [[rule]]"),
    ],
)
def test_a_broken_rule_has_its_message(old: str, new: str, message: str) -> None:
    data = changed((old, new))
    if "rule = 3" in new:
        data = b"version = 1\nrule = 3\n"

    assert any(message in line for line in refusals(data)), refusals(data)


def place_in(data: bytes, piece: str) -> str:
    """`line:column` of the first character of a piece of a file."""
    before = data.decode().partition(piece)[0]
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


@pytest.mark.parametrize(
    ("old", "new", "piece"),
    [
        ("insertion_threshold = 2", "insertion_treshold = 2", "insertion_treshold"),
        ("premigrate = 0.65", "premigrate = 0.80", "0.80 }"),
        ('weight = "-heat"', 'weight = "heat"', '"heat"'),
        ('id = "tmp"\n', "", '[[rule]]\nfilter = { prefix = "tmp/"'),
        ("[budget]", "[bugdet]", "[bugdet]"),
        ('tenant = "acme", bucket', "bucket", '"db"'),
        ("[heat]", "[heat]\r\n  \tpolish = 1", "polish"),
        ("version = 1", "version = 7", "7"),
    ],
)
def test_a_fault_has_line_and_column(old: str, new: str, piece: str) -> None:
    data = changed((old, new))

    assert refusals(data)[0].startswith(f"p:{place_in(data, piece)}: ")


def test_all_faults_are_named_at_once_in_the_order_of_the_file() -> None:
    lines = refusals(changed(("low = 0.75", "low = 0.9"), ("hysteresis", "histeresis")))

    assert [line.split(": ")[1] for line in lines] == [
        "rule[4].threshold.low",
        "rule[5].histeresis",
    ]


def test_long_and_unprintable_names_of_the_file_do_not_swell_its_messages() -> None:
    names = ["b\\nb", *(f"{letter}\\n{letter * 900}" for letter in "cdefghi")]
    tiers = "".join(f'[[tier]]\nname = "{name}"\n' for name in names)
    rules = "".join(
        f'[[rule]]\nid = "{number}"\nfrom_pool = "{wrong}"\nto_pool = "{names[0]}"\n'
        for number, wrong in enumerate(("b\\nbb", "x\\n" + "x" * 900))
    )
    lines = refusals(HEAD + tiers + rules)

    assert max(map(len, lines)) < 600
    assert any(line.endswith(r"no tier is called 'b\nbb'; did you mean 'b\nb'?") for line in lines)
    assert any(line.endswith(", ...") for line in lines)


def test_what_was_meant_is_looked_for_no_oftener_than_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes most of the time of a file in which hundreds of keys are wrong."""
    asked: list[str] = []
    look = difflib.get_close_matches

    def count(word: str, possibilities: list[str], n: int) -> list[str]:
        asked.append(word)
        return look(word, possibilities, n=n)

    monkeypatch.setattr(difflib, "get_close_matches", count)
    lines = refusals(HEAD + "[heat]\n" + "".join(f"half_lif{n} = 1\n" for n in range(1000)))

    assert len(lines) == FAULTS_MAX
    assert all(line.endswith("did you mean half_life?") for line in lines)
    assert len(asked) == FAULTS_MAX


def test_a_missing_version_is_refused() -> None:
    assert refusals("") == ["p:1:1: version: is required: version = 1"]


def test_pins_take_at_most_four_fifths_of_a_tier() -> None:
    lines = refusals(FULL, ssd=249 << 30, hdd=TIB)

    assert [line.split(": ", 1)[1] for line in lines] == [
        "rule[1].pin_limit: all pins on ssd would be 200GiB, more than 80% of its 249GiB"
    ]
    assert parse_policy(FULL.encode(), tier_bytes={"ssd": 250 << 30, "hdd": TIB}).warnings == ()


def test_a_tier_without_volumes_is_refused() -> None:
    assert "p:11:8: tier[2].name: no volume is of the tier hdd; known: ssd" in refusals(
        FULL, ssd=TIB
    )


def test_a_tenant_key_belongs_into_an_overlay() -> None:
    assert refusals(HEAD + 'tenant = "acme"\n') == [
        "p:2:1: tenant: belongs into a tenant's overlay, not into the policy of the appliance"
    ]


def test_a_pin_without_limit_is_doubtful() -> None:
    lines = warnings(changed(('pin_limit = "200GiB"\n', "")))

    assert [line.split(": ", 1)[1] for line in lines] == [
        "rule[1]: a pin without pin_limit may fill ssd with what it matches"
    ]


@pytest.mark.parametrize(
    ("change", "blocker"),
    [
        (('prefix = "tmp/", object_size_greater_than = "4MiB"', ""), "rule[3]"),
        (('filter = { prefix = "tmp/", object_size_greater_than = "4MiB" }\n', ""), "rule[4]"),
    ],
)
def test_a_rule_that_nothing_reaches_is_a_warning(change: tuple[str, str], blocker: str) -> None:
    lines = warnings(changed(change))

    assert any(f"{blocker}: nothing reaches this rule: tmp comes first" in line for line in lines)


def test_a_full_pin_lets_pages_pass_to_the_rules_behind_it() -> None:
    limited = changed(('tenant = "acme", bucket = "db", prefix = "wal/"', ""))

    assert warnings(limited) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff", "p:1:1: not UTF-8"),
        (b"version = 1\n# \xc3\xa9 \xff", "p:2:6: not UTF-8"),
        (b"\xef\xbb\xbfversion = 1", "byte order mark"),
        (b"version = 1\nx = ", "no TOML: Invalid value"),
        (b"version = 1\nversion = 1\n", "no TOML: Cannot overwrite a value"),
        (b"x = " + b"[" * 900, "nested too deeply"),
        (b"x = " + b"[" * 2001, "more than 2000 brackets"),
        (b"x = " + b"9" * 5000, "no TOML: Exceeds the limit"),
        (b"a." * 16 + b"a = 1", "more than 16 names joined by dots"),
        (b"x = { " + b"'a' . " * 16 + b"a = 1 }", "more than 16 names joined by dots"),
        (b"#" * (POLICY_BYTES_MAX + 1), f"longer than {POLICY_BYTES_MAX} bytes"),
        (b'version = 1\n[[rule]]\nid = "a"\n' * 1, "a rule is one of"),
        (b"version = 1\n" + b"[[rule]]\n" * 257, "rule: 257 of them, at most 256"),
    ],
)
def test_what_is_no_policy_at_all_says_so(data: bytes, message: str) -> None:
    assert any(message in line for line in refusals(data)), refusals(data)


def test_the_first_rule_that_answers_a_question_counts() -> None:
    made = parse_policy(FULL.encode()).policy
    cold = frozenset({("retention", "cold")})

    wal = evaluate(made, RuleFacts(tier="hdd", tenant="acme", bucket="db", key="wal/1"))
    full = evaluate(
        made, RuleFacts(tier="hdd", tenant="acme", bucket="db", key="wal/1"), skip=["pin-wal"]
    )
    old = evaluate(made, RuleFacts(tier="ssd", tags=cold, object_bytes=1 << 20))
    small = evaluate(made, RuleFacts(tier="ssd", tags=cold, object_bytes=1))
    temporary = evaluate(made, RuleFacts(tier="ssd", key="tmp/a", object_bytes=5 << 20))

    assert (wal.rise.id, wal.sink.id, wal.pin) == ("pin-wal", "pin-wal", made.rules[0].action)
    assert (full.rise.id, full.sink.id, full.pin) == ("default", "default", None)
    assert (old.sink.id, old.demote) == ("old-90d", None)
    assert (small.sink.id, small.demote) == ("demote", made.rules[3].action)
    assert (temporary.rise.id, temporary.sink.id) == ("tmp", "tmp")
    assert small.promote is None
