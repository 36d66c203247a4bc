from __future__ import annotations

import pytest

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.operations import GetBucketSubresource
from appliance.s3.subresources import PROBES, answer_probe


@pytest.mark.parametrize("name", sorted(PROBES))
def test_a_probe_gets_its_document_or_its_code(name: str) -> None:
    expected = PROBES[name]
    operation = GetBucketSubresource(bucket="b", name=name)

    if isinstance(expected, bytes):
        assert answer_probe(operation) == expected
        return
    with pytest.raises(S3Error) as refused:
        answer_probe(operation)
    assert refused.value.code is expected
    assert refused.value.code.status == 404
    assert refused.value.elements == {"BucketName": "b"}


@pytest.mark.parametrize("name", ["analytics", "intelligent-tiering", "inventory", "metrics"])
def test_a_configuration_asked_for_by_its_id_does_not_exist(name: str) -> None:
    with pytest.raises(S3Error) as refused:
        answer_probe(GetBucketSubresource(bucket="b", name=name, configuration_id="x"))

    assert refused.value.code is S3Code.NO_SUCH_CONFIGURATION


def test_an_id_means_nothing_to_other_settings() -> None:
    operation = GetBucketSubresource(bucket="b", name="logging", configuration_id="x")

    assert answer_probe(operation) == PROBES["logging"]
