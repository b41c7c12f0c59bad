"""A store of lists and sizes as tests have it: filled, and what is known of it at the next start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import trio

from idcfs.namespace.store import Kept, SeriesStore
from tests.namespace.making import encodable_text, hostile

texts = hostile(encodable_text)


def filled(path: Path, count: int = 3_000) -> None:
    """Sizes and lists on several pages of ``path``."""
    store = SeriesStore(path)
    for number in range(count):
        store.remember_size(f"content-{number % 10}", f"1.2.{number}", number)
    for number in range(10):
        store.remember_list(f"content-{number}", [f"1.2.{uid}" for uid in range(number, count, 10)])
    store.close()


def loaded(store: SeriesStore, content: str) -> Kept:
    return trio.run(store.load, content)


def kept_at_next_start(path: Path, content: str) -> Kept:
    store = SeriesStore(path)
    try:
        return loaded(store, content)
    finally:
        store.close()


def at_next_start(path: Path, content: str) -> dict[str, int]:
    return kept_at_next_start(path, content).sizes


def list_at_next_start(path: Path, content: str) -> tuple[str, ...] | None:
    return kept_at_next_start(path, content).uids


async def until(condition: Callable[[Kept], bool], store: SeriesStore, content: str) -> None:
    while not condition(await store.load(content)):  # noqa: ASYNC110
        await trio.sleep(0.01)
