"""Lists of the API, read to their end."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx


async def listed(http: httpx.AsyncClient, path: str, key: str, enough: Callable[[list[Any]], bool]) -> list[Any]:
    """Ask until all pages together are as expected: the read model is written a moment after the event."""
    rows: list[Any] = []
    try:
        async with asyncio.timeout(15):
            while True:
                rows = [row for page in await pages(http, path) for row in page[key]]
                if enough(rows):
                    return rows
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{path}: {rows}") from None


async def pages(http: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    """All pages, from this one on."""
    found: list[dict[str, Any]] = []
    token = None
    while token or not found:
        answer = await http.get(httpx.URL(path).copy_merge_params({"page_token": token} if token else {}))
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
        token = found[-1].get("nextPageToken")
    return found
