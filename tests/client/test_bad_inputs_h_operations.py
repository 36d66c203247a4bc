"""Bad inputs G91-92, H: full disks, corrupt pages, secrets, keys, TLS, stops and starts."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import ssl
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.client.bad_inputs import World, make_world, wait_until
from tests.client.raw import Credentials, presign, sign
from tests.client.server import CommandFailed, TlsFiles, run_command
from tests.client.trees import pseudo_bytes
from tests.client.wire import read_answer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.server import ServerFactory, ServerProcess

pytestmark = [pytest.mark.client, pytest.mark.slow]

MIB = 1024 * 1024


def files_of(server: ServerProcess) -> list[Path]:
    """Every file of the data directory and the log: where a secret could have leaked to."""
    found = [path for path in server.data_path.rglob("*") if path.is_file()]
    return [*found, server.log_path]


def refuses_to_start(server: ServerProcess) -> str:
    """Asserts that the server ends by itself, with a status and no ready line; returns its log."""
    with pytest.raises(AssertionError, match="before it was ready"):
        server.start()
    return server.log_tail()


def edit_settings(server: ServerProcess, pattern: str, replacement: str) -> None:
    """Edits the settings file as an operator would."""
    text = server.config_path.read_text()
    changed = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    assert changed != text, text
    server.config_path.write_text(changed)


def with_room_kept(server: ServerProcess, size: str) -> None:
    """Makes every volume keep that much free."""
    text = re.sub(r"(?m)^#?\s*keep_free\s*=.*\n", "", server.config_path.read_text())
    text = re.sub(r"(?m)^(tier\s*=.*)$", rf'\1\nkeep_free = "{size}"', text)
    assert size in text, text
    server.config_path.write_text(text)


def test_a_full_appliance_refuses_puts_and_serves_the_rest(make_server: ServerFactory) -> None:
    server = make_server()
    server.start()
    world = make_world(server)
    assert world.ask(world.signed("PUT", "other", body=b"x" * 100_000)).status == 200
    server.stop()
    with_room_kept(server, "8000TiB")
    server.start()

    answer = world.ask(world.signed("PUT", "more", body=b"x" * 100_000))
    assert (answer.status, answer.code) == (507, "InsufficientStorage"), str(answer)
    world.assert_invisible("more")
    world.assert_alive()
    assert world.ask(world.signed("DELETE", "other")).status == 204
    server.stop()
    with_room_kept(server, "1GiB")
    server.start()
    assert world.ask(world.signed("PUT", "more", body=b"x" * 100_000)).status == 200


def corrupt(server: ServerProcess, marker: bytes) -> int:
    """Flips a byte of the payload that begins with the marker, wherever a segment holds it."""
    count = 0
    for path in server.directory.glob("volume-*/**/*"):
        if not path.is_file():
            continue
        with path.open("r+b") as file:
            content = file.read(64 * MIB)
            at = content.find(marker)
            if at >= 0:
                file.seek(at + 17)
                file.write(bytes([content[at + 17] ^ 0x40]))
                os.fsync(file.fileno())
                count += 1
    return count


@pytest.mark.parametrize("length", [20_000, 9 * MIB])
def test_a_corrupt_page_is_never_served_whole(make_server: ServerFactory, length: int) -> None:
    server = make_server()
    server.start()
    world = make_world(server)
    body = pseudo_bytes("corrupt", length)
    assert world.ask(world.signed("PUT", "bad", body=body), deadline_s=30).status == 200
    server.stop()
    last_page = body[(length - 1) // (4 * MIB) * (4 * MIB) :]
    assert corrupt(server, last_page[:64]) == 1
    server.start()

    for headers in ((), (("range", f"bytes=0-{length - 1}"),)):
        answer = world.ask(world.signed("GET", "bad", *headers), deadline_s=30)
        assert answer.status == 500 or len(answer.body) < length, f"{answer.status}"
    world.assert_alive()


def test_secrets_and_signatures_reach_no_file(make_server: ServerFactory) -> None:
    server = make_server(settings={"THERMOCLINE_LOG_LEVEL": "debug"})
    server.start()
    world = make_world(server)
    shown = presign(world.request(), world.alice.credentials)
    assert world.ask(shown).status == 200
    wrong = sign(world.request(), world.bob.credentials)
    answers = [world.ask(wrong), world.ask(world.signed("GET", "absent"))]
    server.command("catalog", "backup", str(server.data_path / "backup.db"))
    server.stop()

    canaries = {
        "a secret": world.alice.secret_access_key,
        "another secret": world.bob.secret_access_key,
        "a presigned signature": shown.query.rpartition("=")[2],
        "a header signature": wrong.value("authorization").rpartition("=")[2],
    }
    for path in files_of(server):
        content = path.read_bytes()
        for what, canary in canaries.items():
            assert canary.encode() not in content, f"{what} in {path.name}"
    for answer in answers:
        assert not [what for what, canary in canaries.items() if canary.encode() in answer.body]


def test_a_damaged_secret_stops_one_key_only(make_server: ServerFactory) -> None:
    server = make_server()
    server.start()
    world = make_world(server)
    server.stop()
    with sqlite3.connect(server.data_path / "catalog.db") as database:
        (sealed,) = database.execute(
            "SELECT sealed_secret FROM access_keys WHERE access_key_id = ?",
            (world.bob.access_key_id,),
        ).fetchone()
        spoiled = sealed[:-1] + bytes([sealed[-1] ^ 1])
        database.execute(
            "UPDATE access_keys SET sealed_secret = ? WHERE access_key_id = ?",
            (spoiled, world.bob.access_key_id),
        )
    database.close()
    server.start()

    answer = world.ask(world.signed("HEAD", None, bucket=world.bob_bucket, who=world.bob))
    assert answer.status in {403, 500}, str(answer)
    world.assert_alive()
    assert world.bob.access_key_id in server.log_text()


def test_a_secret_moved_to_another_row_does_not_work(make_server: ServerFactory) -> None:
    server = make_server()
    server.start()
    world = make_world(server)
    server.stop()
    with sqlite3.connect(server.data_path / "catalog.db") as database:
        database.execute(
            "UPDATE access_keys SET sealed_secret = (SELECT sealed_secret FROM access_keys"
            " WHERE access_key_id = ?) WHERE access_key_id = ?",
            (world.alice.access_key_id, world.bob.access_key_id),
        )
    database.close()
    server.start()

    moved = Credentials(
        access_key_id=world.bob.access_key_id,
        secret_access_key=world.alice.secret_access_key,
    )
    answer = world.ask(sign(world.request(), moved))
    assert answer.status in {403, 500}, str(answer)
    world.assert_alive()


def test_a_missing_foreign_or_open_key_file_refuses_to_start(make_server: ServerFactory) -> None:
    server, other = make_server(), make_server()
    key_file = server.data_path / "master.key"
    kept = key_file.read_bytes()
    assert key_file.stat().st_mode & 0o777 == 0o600

    key_file.unlink()
    refuses_to_start(server)
    assert not key_file.exists()
    key_file.write_bytes((other.data_path / "master.key").read_bytes())
    key_file.chmod(0o600)
    refuses_to_start(server)
    key_file.write_bytes(kept)
    key_file.chmod(0o644)
    refuses_to_start(server)
    key_file.chmod(0o600)
    server.start()


@pytest.mark.parametrize(
    ("key_id", "secret"),
    [("minioadmin", "minioadmin"), ("admin", "admin"), ("root", "password"), ("test", "test")],
)
def test_there_are_no_default_credentials(world: World, key_id: str, secret: str) -> None:
    credentials = Credentials(access_key_id=key_id, secret_access_key=secret)
    answer = world.ask(sign(world.request(), credentials))

    assert (answer.status, answer.code) == (403, "InvalidAccessKeyId"), str(answer)


def test_plain_http_beyond_loopback_needs_a_setting(make_server: ServerFactory) -> None:
    server = make_server()
    server.environment["THERMOCLINE_S3_LISTEN"] = "0.0.0.0:0"
    assert "allow_plain_http" in refuses_to_start(server)

    server.environment["THERMOCLINE_S3_ALLOW_PLAIN_HTTP"] = "true"
    server.start()


def handshake(server: ServerProcess, context: ssl.SSLContext) -> ssl.SSLSocket:
    """A TLS connection to the server."""
    host, _, port = server.endpoint.partition("://")[2].rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    try:
        return context.wrap_socket(connection, server_hostname="localhost")
    except BaseException:
        connection.close()
        raise


def test_old_tls_is_refused(tls_server: ServerProcess, tls_files: TlsFiles) -> None:
    context = ssl.create_default_context(cafile=str(tls_files.ca_bundle))
    with handshake(tls_server, context) as connection:
        assert connection.version() in {"TLSv1.2", "TLSv1.3"}
        assert connection.selected_alpn_protocol() in {None, "http/1.1"}
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(str(tls_files.ca_bundle))
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        handshake(tls_server, old).close()


def test_plain_http_to_the_tls_port_is_not_served(tls_server: ServerProcess) -> None:
    host, _, port = tls_server.endpoint.partition("://")[2].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        try:
            received = connection.recv(1000)
        except ConnectionResetError:
            received = b""
    assert b"200 OK" not in received


def test_a_certificate_is_reloaded_without_a_restart(
    make_server: ServerFactory, tmp_path: Path
) -> None:
    files = TlsFiles(
        certificate=tmp_path / "c.pem", key=tmp_path / "k.pem", ca_bundle=tmp_path / "ca.pem"
    )

    def issue() -> trustme.CA:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        files.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        files.key.write_bytes(issued.private_key_pem.bytes())
        files.key.chmod(0o600)
        return authority

    def trusts(authority: trustme.CA) -> bool:
        context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
        try:
            handshake(server, context).close()
        except ssl.SSLError:
            return False
        return True

    first = issue()
    server = make_server(tls=files)
    server.start()
    assert trusts(first)
    second = issue()
    os.kill(server.pid, signal.SIGHUP)

    assert wait_until(lambda: trusts(second), deadline_s=5)
    assert server.is_running


def test_the_remote_admin_port_takes_its_token_and_nothing_else(
    make_server: ServerFactory, tls_files: TlsFiles, tmp_path: Path
) -> None:
    token = "0123456789abcdef" * 3
    (tmp_path / "token").write_text(token)
    (tmp_path / "token").chmod(0o600)
    server = make_server()
    server.environment |= {
        "THERMOCLINE_ADMIN_LISTEN": "127.0.0.1:0",
        "THERMOCLINE_ADMIN_TLS_CERTIFICATE": str(tls_files.certificate),
        "THERMOCLINE_ADMIN_TLS_KEY": str(tls_files.key),
        "THERMOCLINE_ADMIN_TOKEN_FILE": str(tmp_path / "token"),
    }
    server.start()
    world = make_world(server)
    remote = next(word for word in server.ready["admin"].split(",") if word.startswith("https"))
    context = ssl.create_default_context(cafile=str(tls_files.ca_bundle))

    def ask(path: str, *headers: tuple[str, str]) -> tuple[int, bytes]:
        request = urllib.request.Request(remote + path, headers=dict(headers))
        try:
            with urllib.request.urlopen(request, timeout=10, context=context) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read()

    signature = world.signed().value("authorization")
    for headers in (
        (),
        (("authorization", f"Bearer {token[:-1]}"),),
        (("authorization", token),),
        (("authorization", f"Bearer {world.alice.secret_access_key}"),),
        (("authorization", signature),),
    ):
        for path in ("/v1/tenants", "/v1/openapi.json", "/nothing"):
            status, body = ask(path, *headers)
            assert status in {401, 403}, f"{path} {headers}"
            assert world.alice.name.encode() not in body
    status, body = ask("/v1/tenants", ("authorization", f"Bearer {token}"))
    assert status == 200
    assert world.alice.name.encode() in body
    # And the admin's token opens nothing on the S3 port.
    bearer = ("authorization", f"Bearer {token}")
    assert world.ask(world.request("GET", "kept", bearer)).status in {400, 403}


def test_a_second_server_on_the_same_data_is_refused(make_server: ServerFactory) -> None:
    server = make_server()
    server.start()
    world = make_world(server)
    with pytest.raises(CommandFailed):
        run_command(["serve", "--config", str(server.config_path)], server.environment)

    world.assert_alive()


def test_sigterm_lets_a_request_in_flight_end(make_server: ServerFactory) -> None:
    server = make_server()
    server.start()
    world = make_world(server)
    body = pseudo_bytes("in flight", 2 * MIB)
    wire = world.signed("PUT", "in-flight", body=body).encode()
    with socket.create_connection(world.address, timeout=10) as connection:
        connection.sendall(wire[:MIB])
        stopper = threading.Thread(target=server.stop)
        time.sleep(0.3)  # the body is on its way when the signal comes
        stopper.start()
        time.sleep(0.3)
        connection.sendall(wire[MIB:])
        answer = read_answer(connection, deadline_s=20, method="PUT")
        stopper.join()
    assert answer.status == 200, str(answer)
    server.start()
    assert world.read("in-flight").body == body


def test_an_acknowledged_put_survives_a_kill(make_server: ServerFactory) -> None:
    server = make_server()
    server.start()
    world = make_world(server)
    bodies = {f"k{number}": pseudo_bytes(str(number), 1 + number * 70_000) for number in range(30)}
    for key, body in bodies.items():
        assert world.ask(world.signed("PUT", key, body=body)).status == 200
    server.kill()
    server.start()

    for key, body in bodies.items():
        assert world.read(key).body == body
    server.command("catalog", "check")


INJECTIONS = [
    "'; DROP TABLE versions; --",
    '" OR ""="',
    "%s%n%x",
    "${jndi:ldap://x}",
    "../../etc/passwd",
    "\\..\\..",
    "{{7*7}}",
    "<script>alert(1)</script>",
    "]]>",
    "\x1b[31mred",
    "line\nlevel=error event=forged",
    "\u202eright to left",
]


@pytest.mark.parametrize("text", INJECTIONS, ids=ascii)
def test_hostile_text_is_stored_literally(world: World, text: str) -> None:
    assert world.ask(world.signed("PUT", f"hostile/{text}", body=text.encode())).status == 200
    assert world.read(f"hostile/{text}").body == text.encode()
    lines = world.server.log_text().splitlines()
    assert not [line for line in lines if line.startswith("level=error event=forged")]
    world.assert_alive()


@pytest.mark.parametrize("name", ["a'b", "a;b", "../x", "a b", "", "x" * 300, "Ünï", "a\nb"])
def test_a_hostile_tenant_name_is_refused(world: World, name: str) -> None:
    with pytest.raises(CommandFailed) as refused:
        world.server.command("tenant", "create", "--", name)

    assert refused.value.status in {1, 2}
    assert "Traceback" not in refused.value.errors
