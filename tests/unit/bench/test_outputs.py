"""What load generators print, in lines recorded from runs of our own."""

from __future__ import annotations

import json

import pytest

from tools.bench.outputs import (
    CurlTransfer,
    OutputUnclear,
    parse_curl,
    parse_fio,
    parse_rclone,
    parse_restic,
    parse_s5cmd,
    parse_wrk,
)

WRK_HEAD = """Running 30s test @ http://127.0.0.1:18555
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    41.52ms   32.01ms 303.14ms   75.34%
    Req/Sec   425.29    246.99     1.14k    81.08%
  4986 requests in 11.91s, 3.35MB read
Requests/sec:    418.59
Transfer/sec:    287.78KB

"""
WRK_ONCE = (
    '{"requests": 4986, "bytes": 3510144, "duration_us": 11911543, "first_us": 13981690246, '
    '"exhausted_us": 13993600647, "handed_out": 5000, "socket_errors": 0, "status_errors": 0, '
    '"timeouts": 0, "p50_us": 35869, "p90_us": 82130, "p99_us": 148312, "max_us": 303142}\n'
)
WRK_LOOP = (
    '{"requests": 8365, "bytes": 41080515, "duration_us": 2055811, "first_us": 13993754294, '
    '"exhausted_us": 0, "handed_out": 8365, "socket_errors": 0, "status_errors": 0, '
    '"timeouts": 0, "p50_us": 2641, "p90_us": 12061, "p99_us": 32615, "max_us": 56301}\n'
)
CURL = (
    '{"status": "200", "sent_bytes": 0, "received_bytes": 16777216,'
    ' "seconds": 0.031245, "exit": 0}\n'
    '{"status": "200", "sent_bytes": 0, "received_bytes": 409600,'
    ' "seconds": 2.000141, "exit": 28}\n'
)
S5CMD = (
    '{"operation":"cp","success":true,"source":"/data/f20","destination":"s3://bench/f20",'
    '"object":{"type":"file","size":20971520}}\n'
)
RCLONE = (
    '{"time":"2026-11-21T18:06:22.18730574Z","level":"notice","msg":"\\nTransferred:   \\t'
    '         21 B / 21 B, 100%, 0 B/s, ETA -\\n","stats":{"bytes":21,"checks":0,"errors":0,'
    '"eta":null,"fatalError":false,"listed":4,"speed":0,"totalTransfers":3,"transfers":3},'
    '"source":"accounting/stats.go:549"}\n'
)
RESTIC = (
    '{"message_type":"status","percent_done":0,"total_files":1,"total_bytes":7}\n'
    '{"message_type":"summary","files_new":3,"data_added":2470,"total_files_processed":3,'
    '"total_bytes_processed":21,"total_duration":0.243060651,"snapshot_id":"cf2b013b"}\n'
)


def test_wrk_counts_to_the_end_of_a_list_that_ended() -> None:
    found = parse_wrk(WRK_HEAD + WRK_ONCE)

    assert found.is_exhausted
    assert found.requests == 4986
    assert found.seconds == pytest.approx(11.910401)  # not the duration, which goes on behind it
    assert found.p99_s == pytest.approx(0.148312)
    assert found.failures == {}


def test_wrk_counts_to_the_end_of_its_time_otherwise() -> None:
    found = parse_wrk(WRK_HEAD + WRK_LOOP)

    assert not found.is_exhausted
    assert found.seconds == pytest.approx(2.055811)


@pytest.mark.parametrize("name", ["socket_errors", "status_errors", "timeouts"])
def test_wrk_failures_of_every_kind_count(name: str) -> None:
    assert parse_wrk(WRK_LOOP.replace(f'"{name}": 0', f'"{name}": 3')).failures == {name: 3}


@pytest.mark.parametrize(
    "text",
    [
        "",
        WRK_HEAD,
        "{broken\n",
        "[]\n",
        WRK_LOOP.replace('"requests": 8365', '"requests": 0'),
        WRK_LOOP.replace('"p99_us": 32615', '"p99_us": null'),
        WRK_LOOP.replace('"duration_us": 2055811', '"duration_us": 0'),
    ],
)
def test_wrk_output_without_figures_is_an_error(text: str) -> None:
    with pytest.raises(OutputUnclear):
        parse_wrk(text)


def test_curl_tells_whole_transfers_from_those_that_the_time_ended() -> None:
    assert parse_curl(CURL) == [
        CurlTransfer(
            status=200, sent_bytes=0, received_bytes=16777216, seconds=0.031245, is_whole=True
        ),
        CurlTransfer(
            status=200, sent_bytes=0, received_bytes=409600, seconds=2.000141, is_whole=False
        ),
    ]


def test_curl_says_no_status_where_no_answer_came() -> None:
    (found,) = parse_curl(
        '{"status": "000", "sent_bytes": 0, "received_bytes": 0, "seconds": 0.000210, "exit": 7}\n'
    )

    assert found.status == 0
    assert not found.is_whole


@pytest.mark.parametrize(
    "text", ["", "curl: (7) Failed to connect\n", CURL.replace('"200"', "200")]
)
def test_curl_output_of_another_form_is_an_error(text: str) -> None:
    with pytest.raises(OutputUnclear):
        parse_curl(text)


def test_s5cmd_counts_files_that_were_copied() -> None:
    assert parse_s5cmd(S5CMD * 3) == 3


@pytest.mark.parametrize(
    "text", ["", S5CMD + S5CMD.replace("true", "false"), "ERROR no such bucket\n"]
)
def test_s5cmd_failures_are_errors(text: str) -> None:
    with pytest.raises(OutputUnclear):
        parse_s5cmd(text)


def test_rclone_says_files_and_bytes_last() -> None:
    earlier = RCLONE.replace('"transfers":3', '"transfers":1')

    assert parse_rclone("NOTICE: plain text\n" + earlier + RCLONE) == (3, 21)


@pytest.mark.parametrize("text", ["", RCLONE.replace('"errors":0', '"errors":2')])
def test_rclone_without_success_is_an_error(text: str) -> None:
    with pytest.raises(OutputUnclear):
        parse_rclone(text)


def test_restic_says_what_it_read() -> None:
    assert parse_restic(RESTIC) == 21


def test_restic_without_a_summary_is_an_error() -> None:
    with pytest.raises(OutputUnclear):
        parse_restic(RESTIC.splitlines()[0])


def fio_report(error: int = 0) -> str:
    job = {"jobname": "raw", "error": error, "read": {"bw_bytes": 0}, "write": {"bw_bytes": 2**30}}
    return "fio: a warning\n" + json.dumps({"fio version": "fio-3.33", "jobs": [job]}, indent=2)


def test_fio_says_bytes_a_second_of_one_direction() -> None:
    assert parse_fio(fio_report(), "write") == 2**30


@pytest.mark.parametrize("text", ["", "{", "{}", fio_report(error=5)])
def test_fio_failures_are_errors(text: str) -> None:
    with pytest.raises(OutputUnclear):
        parse_fio(text, "write")
