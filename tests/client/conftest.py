"""Shared servers: one plain and one with TLS for the whole run, tenants for each test module."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.client.access import Access
from tests.client.bad_inputs import World, make_world
from tests.client.server import ServerFactory, ServerProcess, TenantAccess, TlsFiles, running

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

__all__: list[str] = []


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate for 127.0.0.1 and localhost, and the bundle of the authority behind it."""
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost", "*.localhost", "s3.test", "*.s3.test")
    files = TlsFiles(
        certificate=directory / "certificate.pem",
        key=directory / "key.pem",
        ca_bundle=directory / "ca.pem",
    )
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(files.certificate), append=True)
    issued.private_key_pem.write_to_path(str(files.key))
    files.key.chmod(0o600)
    authority.cert_pem.write_to_path(str(files.ca_bundle))
    return files


@pytest.fixture(scope="session")
def plain_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The shared server on plain HTTP."""
    with running(ServerProcess(tmp_path_factory.mktemp("plain"))) as server:
        yield server


@pytest.fixture(scope="session")
def tls_server(
    tmp_path_factory: pytest.TempPathFactory, tls_files: TlsFiles
) -> Iterator[ServerProcess]:
    """The shared server over TLS."""
    with running(ServerProcess(tmp_path_factory.mktemp("secure"), tls=tls_files)) as server:
        yield server


@pytest.fixture(scope="module", params=["plain", "tls"])
def server(request: pytest.FixtureRequest) -> ServerProcess:
    """Both shared servers in turn: every test that takes it runs over plain HTTP and over TLS."""
    found = request.getfixturevalue(f"{request.param}_server")
    assert isinstance(found, ServerProcess)
    return found


@pytest.fixture(scope="module")
def tenant(server: ServerProcess) -> TenantAccess:
    """A tenant of this module's own on the server in turn."""
    return server.create_tenant(f"t{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="module")
def access(server: ServerProcess, tenant: TenantAccess) -> Access:
    """What a client needs to reach the module's tenant."""
    return Access(server=server, tenant=tenant)


@pytest.fixture(scope="module")
def plain_access(plain_server: ServerProcess) -> Access:
    """A tenant of this module's own on the plain server, for what once is enough."""
    tenant = plain_server.create_tenant(f"t{uuid.uuid4().hex[:12]}")
    return Access(server=plain_server, tenant=tenant)


@pytest.fixture(scope="module")
def world(plain_server: ServerProcess) -> World:
    """Alice and Bob on the plain server, for the tables of bad inputs."""
    return make_world(plain_server)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home for a client process."""
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[ServerFactory]:
    """Makes servers of this test's own (not started); whatever still runs is killed at the end."""
    factory = ServerFactory(tmp_path)
    yield factory
    factory.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the end of each server's log to the report of a failed test."""
    report = yield
    if report.failed:
        for server in _servers_of(item):
            report.sections.append((f"log of {server.directory.name}", server.log_tail()))
    return report


def _servers_of(item: pytest.Item) -> list[ServerProcess]:
    found: list[ServerProcess] = []
    for value in getattr(item, "funcargs", {}).values():
        owner = value if isinstance(value, ServerProcess) else getattr(value, "server", None)
        if isinstance(owner, ServerProcess) and owner not in found:
            found.append(owner)
    return found
