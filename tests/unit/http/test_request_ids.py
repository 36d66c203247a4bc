from __future__ import annotations

import os
import re

from appliance.http.request_ids import RequestIds


def test_an_id_is_sixteen_upper_case_hexadecimal_digits_and_never_the_same() -> None:
    ids = RequestIds(os.urandom)

    minted = [ids.mint() for _ in range(1000)]

    assert all(re.fullmatch(r"[0-9A-F]{16}", each) for each in minted)
    assert len(set(minted)) == len(minted)


def test_every_random_byte_is_used_once() -> None:
    asked: list[int] = []
    given: list[bytes] = []

    def random_bytes(count: int) -> bytes:
        asked.append(count)
        given.append(bytes(number % 251 for number in range(count)))
        return given[-1]

    ids = RequestIds(random_bytes)
    minted = "".join(ids.mint() for _ in range(130))

    assert minted == b"".join(given).hex().upper()[: len(minted)]
    assert sum(asked) < len(minted)  # digits are half bytes: two calls' worth, and a third begun
