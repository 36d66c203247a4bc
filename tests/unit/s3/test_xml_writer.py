from __future__ import annotations

import pytest

from appliance.s3.xml_writer import (
    XML_DECLARATION,
    document,
    escape_text,
    key_element,
    optional_element,
    owner_element,
    text_element,
)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain é 😀 \t\n", "plain é 😀 \t\n"),
        ('<a href="x">&</a>\'', "&lt;a href=&quot;x&quot;&gt;&amp;&lt;/a&gt;'"),
        ("a\r\nb", "a&#13;\nb"),
        ("\x00\x01\x1f\ufffe\uffff\ud800", "\ufffd" * 6),
    ],
)
def test_text_cannot_become_markup_and_stays_well_formed(text: str, written: str) -> None:
    assert escape_text(text) == written


def test_values_are_written_as_xml_has_them() -> None:
    assert text_element("A", True) == "<A>true</A>"
    assert text_element("A", False) == "<A>false</A>"
    assert text_element("A", 5) == "<A>5</A>"
    assert optional_element("A", 0) == "<A>0</A>"
    assert optional_element("A", "") == "<A></A>"
    assert optional_element("A", None) == ""
    assert owner_element("Owner", None) == ""


def test_an_encoded_key_has_s3s_form() -> None:
    key = "a b+c%/é*-_.~\n".encode()

    written = key_element("Key", key, encode_url=True)

    assert written == "<Key>a+b%2Bc%25/%C3%A9*-_.~%0A</Key>"


def test_a_document_begins_with_its_declaration() -> None:
    assert document("A", namespace=None) == XML_DECLARATION + b"<A></A>"
    assert document("A").startswith(
        XML_DECLARATION + b'<A xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    )
