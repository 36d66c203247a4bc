"""Holds a running server against the ledger: every key, byte for byte, and nothing besides."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.crash.ledger import ABSENT, Content, content_of, replay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.client.server import ServerProcess
    from tests.crash.ledger import KeyState, Ledger
    from tests.crash.workload import Target

__all__ = ["assert_catalog_is_clean", "list_keys", "verify_ledger"]

READERS = 8
KEYS_SHOWN = 10


def verify_ledger(ledger: Ledger, target: Target) -> int:
    """Reads every key that was ever tried, and the listing; returns how many objects there are.

    What was promised comes from the ledger's file, as after a loss of the client. Afterwards the
    ledger holds what was seen.

    Raises:
        AssertionError: Names every key that holds neither what was promised nor what an unanswered
            request may have made of it.
    """
    promised = replay(ledger.path)
    keys = sorted(promised)
    with ThreadPoolExecutor(READERS) as pool:
        chunks = [keys[index::READERS] for index in range(READERS)]
        found: dict[str, Content] = {}
        for part in pool.map(lambda chunk: _read_keys(chunk, target), chunks):
            found.update(part)
    wrong = [_describe(key, found[key], promised[key]) for key in keys]
    wrong = [text for text in wrong if text]
    listed = list_keys(target)
    present = {key: content.size for key, content in found.items() if content != ABSENT}
    wrong += [f"{key}: listed, but never written" for key in listed.keys() - promised.keys()]
    wrong += [
        f"{key}: listed with {listed.get(key)} bytes, holds {present.get(key)}"
        for key in sorted((listed.keys() | present.keys()) & promised.keys())
        if listed.get(key) != present.get(key)
    ]
    shown = "\n".join(wrong[:KEYS_SHOWN])
    assert not wrong, f"{len(wrong)} of {len(keys)} keys are wrong:\n{shown}"
    for key in keys:
        if promised[key].possible:
            ledger.note_seen(key, found[key])
    return len(present)


def _describe(key: str, found: Content, state: KeyState) -> str:
    return "" if state.allows(found) else f"{key}: holds {found}, promised {state}"


def _read_keys(keys: Sequence[str], target: Target) -> dict[str, Content]:
    found: dict[str, Content] = {}
    with target.connect() as wire:
        for key in keys:
            reply = wire.ask("GET", key)
            assert reply.status in {200, 404}, f"{key}: {reply}"
            found[key] = content_of(reply.body) if reply.status == 200 else ABSENT
    return found


def list_keys(target: Target) -> dict[str, int]:
    """Every key of the bucket with its size, as ListObjectsV2 tells it."""
    sizes: dict[str, int] = {}
    query = "list-type=2"
    with target.connect() as wire:
        while True:
            reply = wire.ask("GET", query=query)
            assert reply.status == 200, reply
            for row in re.findall(rb"<Contents>(.*?)</Contents>", reply.body, re.DOTALL):
                key = re.search(rb"<Key>([^<]*)</Key>", row)
                size = re.search(rb"<Size>(\d+)</Size>", row)
                assert key is not None
                assert size is not None
                sizes[key.group(1).decode()] = int(size.group(1))
            if b"<IsTruncated>true" not in reply.body:
                return sizes
            after = max(sizes).replace("/", "%2F")
            query = f"list-type=2&start-after={after}"


def assert_catalog_is_clean(server: ServerProcess) -> None:
    """Runs `thermocline catalog check --json` on the running server."""
    assert server.command_json("catalog", "check") == {"ok": True, "findings": []}
