import asyncio
from itertools import islice

import aiohttp
import pytest
from azure.core.exceptions import DecodeError, HttpResponseError, ServiceRequestError, ServiceResponseError
from joblease.broker import PublishFailed
from joblease.errors import ErrorClass, classify, pauses, unforeseen
from joblease.leases import LeaseUnknown
from kubernetes.aio import client
from kubernetes.aio.client import ApiException


def storage(status: int, kind: type[HttpResponseError] = HttpResponseError) -> HttpResponseError:
    error = kind("no")
    error.status_code = status
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (storage(400), ErrorClass.PERMANENT),
        (storage(413), ErrorClass.PERMANENT),
        (storage(403), ErrorClass.TRANSIENT),
        (storage(408), ErrorClass.TRANSIENT),
        (storage(429), ErrorClass.TRANSIENT),
        (storage(503), ErrorClass.TRANSIENT),
        (storage(200, DecodeError), ErrorClass.TRANSIENT),
        (storage(404), ErrorClass.CONFLICT),
        (storage(409), ErrorClass.CONFLICT),
        (storage(412), ErrorClass.CONFLICT),
        (ServiceRequestError("no route"), ErrorClass.TRANSIENT),
        (ServiceResponseError("cut"), ErrorClass.TRANSIENT),
        (ApiException(status=422), ErrorClass.PERMANENT),
        (ApiException(status=500), ErrorClass.TRANSIENT),
        (ApiException(status=410), ErrorClass.CONFLICT),
        (aiohttp.ClientConnectionResetError("reset"), ErrorClass.TRANSIENT),
        (aiohttp.ServerDisconnectedError(), ErrorClass.TRANSIENT),
        (aiohttp.ClientPayloadError("cut"), ErrorClass.TRANSIENT),
        (TimeoutError(), ErrorClass.TRANSIENT),
        (PublishFailed("no confirm"), ErrorClass.TRANSIENT),
        (LeaseUnknown("no answer"), ErrorClass.TRANSIENT),
        (UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates"), ErrorClass.PERMANENT),
        (RecursionError(), ErrorClass.PERMANENT),
        (ValueError("wrong"), ErrorClass.PERMANENT),
    ],
)
def test_each_error_has_a_class(error: BaseException, expected: ErrorClass) -> None:
    assert classify(error) is expected


def test_what_nobody_foresaw_is_no_answer_and_about_no_value() -> None:
    for ours in (KeyError("x"), AttributeError("x"), TypeError("x"), AssertionError(), RuntimeError("x")):
        assert unforeseen(ours)
    for other in (storage(400), storage(503), ValueError("x"), RecursionError(), TimeoutError(), ApiException(422)):
        assert not unforeseen(other)


async def test_an_answer_that_is_no_http_may_be_better_the_next_time() -> None:
    async def garble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x00\xff nonsense\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(garble, "127.0.0.1", 0) as server:
        here = client.Configuration(host=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with client.ApiClient(here) as api:
            with pytest.raises(aiohttp.ClientResponseError) as raised:
                await client.VersionApi(api).get_code()
    assert raised.value.status == 400  # which no API server has said
    assert classify(raised.value) is ErrorClass.TRANSIENT


def test_pauses_grow_to_a_limit_and_never_come_together() -> None:
    series = list(islice(pauses(), 20))
    assert 0.16 <= series[0] <= 0.24
    assert all(4 <= pause <= 6 for pause in series[5:])
    assert len(set(series)) == 20
