"""Commands against a server on a real Unix socket: what they do, print and refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.__main__ import run
from appliance.cli.main import COMMANDS
from tests.admin_harness import AdminServer, ApplicationServer

if TYPE_CHECKING:
    from pathlib import Path

    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

    from tests.cli_harness import Shell

SECRET = "vX93kd02LmqT7rBz5WnYcE81"

pytestmark = pytest.mark.usefixtures("server")


def test_key_create_prints_id_and_secret_as_json(shell: Shell) -> None:
    shell.do("tenant", "create", "demo")

    made = shell.do("key", "create", "--tenant", "demo", "--json").decode()

    assert len(str(made["access_key_id"])) == 20
    assert len(str(made["secret_access_key"])) == 40


def test_a_secret_is_printed_by_the_command_that_made_it_and_never_again(shell: Shell) -> None:
    shell.do("tenant", "create", "demo")
    made = shell.do("key", "create", "--tenant", "demo", "--json").decode()
    rotated = shell.do("key", "rotate", str(made["access_key_id"]), "--json").decode()

    shown = [
        shell.do("key", "list", *options).output
        for options in ([], ["--json"], ["--tenant", "demo"])
    ]
    shown.append(shell.do("audit", "list").output)

    assert made["secret_access_key"] != rotated["secret_access_key"]
    for secret in (str(made["secret_access_key"]), str(rotated["secret_access_key"])):
        assert all(secret not in output for output in shown)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--json", "tenant", "list"],
        ["tenant", "list", "--json"],
        ["--json", "tenant", "list", "--json"],
    ],
)
def test_json_is_taken_before_the_noun_and_after_the_verb(
    shell: Shell, arguments: list[str]
) -> None:
    assert shell.do(*arguments).decode() == {"tenants": [], "next_after": None}


def test_the_socket_is_taken_before_the_noun_and_after_the_verb(
    shell: Shell, server: AdminServer
) -> None:
    shell.set_environment(THERMOCLINE_SOCKET="/nowhere")
    socket = str(server.socket)

    assert shell.do("--socket", socket, "tenant", "list", "--json").decode()["tenants"] == []
    assert shell.do("tenant", "list", "--json", "--socket", socket).decode()["tenants"] == []
    shell.refuse("--socket", socket, "tenant", "list", "--socket", "/nowhere", status=1)


def test_the_socket_comes_from_the_settings_file(shell: Shell, server: AdminServer) -> None:
    shell.set_environment(THERMOCLINE_SOCKET="")
    (shell.directory / "var").mkdir()
    (shell.directory / "var" / "thermocline.toml").write_text(
        f'[admin]\nsocket = "{server.socket}"\n[[volume]]\npath = "/v"\ntier = "ssd"\n'
    )

    assert shell.do("tenant", "list", "--json").decode()["tenants"] == []


def test_a_named_settings_file_is_meant_before_a_socket_of_the_environment(
    shell: Shell,
) -> None:
    errors = shell.refuse("tenant", "list", "--config", "none.toml", status=2)

    assert "none.toml: cannot be read" in errors


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["tenant", "create", "demo"], 1, "tenant 'demo' exists already (TenantExists)"),
        (["tenant", "create", "Bad"], 2, "only lower-case letters"),
        (["tenant", "create", ""], 2, "1 to 63 characters"),
        (["tenant", "create", "x", "--quota-bytes", "0"], 2, "a limit is at least 1"),
        (["tenant", "create", "x", "--quota-bytes", "1T"], 2, "unknown unit 'T'"),
        (["tenant", "create", "x", "--quota-bytes", "-1"], 2, "write a size as"),
        (["tenant", "create", "x", "--quota-bytes", "9EiB"], 2, "unknown unit"),
        (["tenant", "create", "x", "--quota-bytes", "99999PiB"], 2, "larger than 2^63"),
        (["tenant", "create", "x", "--quota-objects", "0"], 2, "a limit is at least 1"),
        (["tenant", "create", "x", "--quota-objects", "1.5"], 2, "write a whole number"),
        (["tenant", "create", "x", "--quota-objects", "٣"], 2, "write a whole number"),
        (["tenant", "create", "x", "--quota-objects", str(2**63)], 2, "a limit is at most"),
        (["tenant", "create", "x", "--quota-buckets", "many"], 2, "write a whole number"),
        (["tenant", "create"], 2, "Missing argument 'NAME'"),
        (["tenant", "show", "nobody"], 1, "no tenant 'nobody' (NoSuchTenant)"),
        (["tenant", "show", ".."], 1, "no tenant '..' (NoSuchTenant)"),
        (["tenant", "show", "a/b"], 1, "no tenant 'a/b' (NoSuchTenant)"),
        (["tenant", "show", ""], 1, "no tenant '' (NoSuchTenant)"),
        (["tenant", "show", "caf\udce9"], 2, "an argument is not UTF-8"),
        (["tenant", "create", "caf\udce9"], 2, "an argument is not UTF-8"),
        (["tenant", "delete", "demo", "--yes"], 1, "still owns 1 buckets (TenantNotEmpty)"),
        (["tenant", "suspend", "nobody"], 1, "NoSuchTenant"),
        (["tenant", "burn", "demo"], 2, "No such command 'burn'"),
        (["weather"], 2, "No such command 'weather'"),
        (["tenant", "list", "--colour"], 2, "No such option"),
        (["quota", "set", "demo"], 2, "give --quota-bytes, --quota-objects or --quota-buckets"),
        (["quota", "set", "demo/backups", "--quota-buckets", "1"], 2, "only a tenant has buckets"),
        (["quota", "set", "demo/none", "--quota-bytes", "1"], 1, "NoSuchBucket"),
        (["quota", "show", "demo/"], 1, "NoSuchBucket"),
        (["user", "create", "--tenant", "demo", "root"], 1, "UserExists"),
        (["user", "create", "--tenant", "demo", "a b"], 2, "only letters, digits"),
        (["user", "create", "bob"], 2, "Missing option '--tenant'"),
        (["user", "delete", "--tenant", "demo", "root", "--yes"], 1, "RootUserKept"),
        (["user", "delete", "--tenant", "demo", "bob", "--yes"], 1, "NoSuchUser"),
        (["key", "create", "--tenant", "nobody"], 1, "NoSuchTenant"),
        (["key", "create", "--tenant", "demo", "--user", "bob"], 1, "NoSuchUser"),
        (["key", "create", "--tenant", "demo", "--role", "admin"], 2, "'admin' is not one of"),
        (["key", "create", "--tenant", "demo", "--prefix", "a"], 2, "needs a bucket scope"),
        (["key", "create", "--tenant", "demo", "--bucket", "A"], 2, "3 to 63 characters"),
        (["key", "create", "--tenant", "demo", "--expires", "2020-01-01"], 2, "lies in the past"),
        (["key", "create", "--tenant", "demo", "--expires", "0s"], 2, "lies in the past"),
        (["key", "create", "--tenant", "demo", "--expires", "-1d"], 2, "write a duration as"),
        (["key", "create", "--tenant", "demo", "--expires", "soon"], 2, "write a duration as"),
        (["key", "create", "--tenant", "demo", "--expires", "999999d"], 2, "longer than a century"),
        (["key", "disable"], 2, "Missing argument"),
        (["key", "disable", "TCNONE"], 1, "no access key 'TCNONE' (NoSuchAccessKey)"),
        (["key", "enable", "TCNONE"], 1, "NoSuchAccessKey"),
        (["key", "rotate", "TCNONE"], 1, "NoSuchAccessKey"),
        (["key", "delete", "TCNONE", "--yes"], 1, "NoSuchAccessKey"),
        (["bucket", "create", "demo/backups"], 1, "BucketExists"),
        (["bucket", "create", "demo/X"], 2, "3 to 63 characters"),
        (["bucket", "create", "demo"], 2, "write a bucket as TENANT/BUCKET"),
        (["bucket", "create", "/b"], 2, "write a bucket as TENANT/BUCKET"),
        (["bucket", "create", "nobody/backups"], 1, "NoSuchTenant"),
        (["bucket", "show", "demo/none"], 1, "no bucket demo/none (NoSuchBucket)"),
        (["bucket", "show", "demo/.."], 1, "NoSuchBucket"),
        (["bucket", "list", "--tenant", "nobody"], 1, "NoSuchTenant"),
        (["usage", "show", "--tenant", "nobody"], 1, "NoSuchTenant"),
        (["audit", "list", "--limit", "0"], 2, "not in the range"),
        (["catalog", "backup", "/proc/version"], 1, "BackupTargetExists"),
        (["catalog", "backup", "/nonexistent/x"], 1, "CatalogUnavailable"),
    ],
    ids=lambda value: (
        " ".join(value).encode("unicode_escape").decode() if isinstance(value, list) else None
    ),
)
def test_bad_input_is_refused_with_its_exit_code(
    shell: Shell, arguments: list[str], status: int, why: str
) -> None:
    shell.do("tenant", "create", "demo")
    shell.do("bucket", "create", "demo/backups")

    assert why in shell.refuse(*arguments, status=status)


@pytest.mark.parametrize(
    "arguments",
    [
        ["tenant", "delete", "demo"],
        ["user", "delete", "--tenant", "demo", "bob"],
        ["key", "delete", "TCX"],
        ["key", "delete", "TCX", "TCY"],
    ],
)
def test_what_destroys_is_not_done_where_nobody_can_be_asked(
    shell: Shell, arguments: list[str]
) -> None:
    errors = shell.refuse(*arguments, status=2, given="y\n")

    assert "repeat it with --yes" in errors


class Terminal:
    """A standard input that claims to be a terminal and answers with one line."""

    def __init__(self, line: str) -> None:
        self._line = line

    def isatty(self) -> bool:
        return True

    def readline(self, _limit: int = -1) -> str:
        return self._line


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1), ("", 1)])
def test_what_destroys_asks_on_a_terminal(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, answer: str, status: int
) -> None:
    shell.do("tenant", "create", "demo")
    monkeypatch.setattr("appliance.cli.output.sys.stdin", Terminal(""))
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _text: answer)

    assert run(["tenant", "delete", "demo"]) == status


def test_several_keys_are_changed_at_once(shell: Shell) -> None:
    shell.do("tenant", "create", "demo")
    ids = [
        str(shell.do("key", "create", "--tenant", "demo", "--json").decode()["access_key_id"])
        for _ in range(2)
    ]

    outcome = shell.do("key", "disable", *ids)

    assert outcome.output == "".join(f"key {access_key_id} disabled\n" for access_key_id in ids)


def test_some_done_and_some_refused_is_partial(shell: Shell) -> None:
    shell.do("tenant", "create", "demo")
    made = shell.do("key", "create", "--tenant", "demo", "--json").decode()

    outcome = shell.run("key", "delete", "--yes", "TCNONE", str(made["access_key_id"]))

    assert outcome.status == 3
    assert outcome.output == f"key {made['access_key_id']} deleted\n"
    assert "1 of 2 keys refused: no access key 'TCNONE'" in outcome.errors


def test_an_imported_secret_comes_from_standard_input(shell: Shell) -> None:
    shell.do("tenant", "create", "demo")
    arguments = ["key", "import", "--tenant", "demo", "--id", "AKOLD", "--role", "ro"]

    outcome = shell.do(*arguments, given=f"{SECRET}\n")

    assert outcome.output == "key AKOLD imported\n"
    assert "AccessKeyExists" in shell.refuse(*arguments, status=1, given=SECRET)


@pytest.mark.parametrize(
    ("access_key_id", "given", "why"),
    [
        ("AKOLD", "", "give the secret as one line"),
        ("AKOLD", "\n", "give the secret as one line"),
        ("AKOLD", "x" * 257, "give the secret as one line"),
        ("AKOLD", "short", "16 to 128 characters"),
        ("minioadmin", "minioadmin", "published default"),
    ],
)
def test_a_weak_import_is_a_usage_error(
    shell: Shell, access_key_id: str, given: str, why: str
) -> None:
    shell.do("tenant", "create", "demo")

    errors = shell.refuse(
        "key", "import", "--tenant", "demo", "--id", access_key_id, status=2, given=given
    )

    assert why in errors


def test_what_a_client_wrote_cannot_drive_the_terminal(shell: Shell) -> None:
    shell.do("tenant", "create", "demo")
    prefix = "\x1b[2Jred[bold]é"
    shell.do("key", "create", "--tenant", "demo", "--bucket", "backups", "--prefix", prefix)

    listed = shell.do("key", "list").output

    assert "\\x1b[2Jred[bold]é" in listed
    assert "\x1b" not in listed


def test_lists_are_put_together_from_all_pages(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("tenants", "users", "keys", "buckets", "usage"):
        monkeypatch.setattr(f"appliance.admin.{module}.PAGE_ROWS", 2)
    for name in ("a1", "b1", "c1", "d1"):
        shell.do("tenant", "create", name)
        shell.do("key", "create", "--tenant", name)
        shell.do("user", "create", "--tenant", "a1", f"user-{name}")
        shell.do("bucket", "create", f"a1/bucket-{name}")

    counts = {
        "tenants": shell.do("tenant", "list", "--json"),
        "keys": shell.do("key", "list", "--json"),
        "users": shell.do("user", "list", "--tenant", "a1", "--json"),
        "buckets": shell.do("bucket", "list", "--tenant", "a1", "--json"),
        "rows": shell.do("usage", "show", "--tenant", "a1", "--json"),
    }

    found = {name: outcome.decode()[name] for name, outcome in counts.items()}
    lengths = {name: len(items) for name, items in found.items() if isinstance(items, list)}
    assert lengths == {"tenants": 4, "keys": 4, "users": 5, "buckets": 4, "rows": 5}


def test_a_relative_backup_lands_where_the_caller_stands(shell: Shell) -> None:
    done = shell.do("catalog", "backup", "copy.db", "--json").decode()

    path = shell.directory / "copy.db"
    assert done == {"path": str(path), "size_bytes": path.stat().st_size}


def test_every_noun_of_the_help_can_be_called(shell: Shell) -> None:
    for noun in COMMANDS:
        assert shell.do(noun, "--help").output.startswith(f"Usage: thermocline {noun}")


class GarbageServer(ApplicationServer):
    """Answers with a status and a body of the test's choice."""

    def __init__(self, socket: Path, status: int, content: bytes) -> None:
        super().__init__(socket)
        self._status = status
        self._content = content

    async def serve(self) -> None:
        await self.serve_application(self._answer)

    async def _answer(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        if scope["type"] != "http":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            return
        headers = [(b"content-length", str(len(self._content)).encode())]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": self._content, "more_body": False})


@pytest.mark.parametrize(
    ("status", "content", "code", "why"),
    [
        (200, b"", 70, "not one this program knows"),
        (200, b"{}", 70, "not one this program knows"),
        (200, b'{"tenants": 5, "next_after": null}', 70, "not one this program knows"),
        (500, b"oops", 70, "answered 500 without saying why"),
        (500, b'{"error": {"code": "InternalError", "message": "m"}}', 70, "m (InternalError)"),
        (503, b'{"error": {"code": "CatalogBusy", "message": "m"}}', 1, "m (CatalogBusy)"),
        (302, b"", 70, "answered 302 without saying why"),
    ],
)
def test_a_server_that_errs_is_told_from_one_that_refuses(
    shell: Shell, tmp_path: Path, status: int, content: bytes, code: int, why: str
) -> None:
    with GarbageServer(tmp_path / "garbage.sock", status, content) as garbage:
        errors = shell.refuse("tenant", "list", "--socket", str(garbage.socket), status=code)

    assert why in errors
