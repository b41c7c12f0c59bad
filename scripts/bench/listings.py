"""Scenarios of the packaged index: mounting, listing and walking it, without a single request."""

from __future__ import annotations

import time

from scripts.bench.measuring import Bench, count_found, memory_of, seconds_of
from scripts.bench.table import Promise
from scripts.harness import status

CLOSED_PORT_URL = "http://127.0.0.1:9/dicomWeb"
"""Nobody listens there: a mount that answers all the same has sent no request."""

FIRST_LS_NEW = Promise("mount to first ls, first time", "s", at_most=6)
FIRST_LS = Promise("mount to first ls, catalog built", "s", at_most=0.5)
MEMORY_LS = Promise("RssAnon after ls", "MiB", at_most=120)
LS_NLST = Promise("ls of nlst (26,410 patients)", "s", at_most=0.4)
FIND = Promise("find -maxdepth 4, directories/s", "/s", at_least=6_000)
FIND_SECONDS = Promise("find -maxdepth 4, whole index", "s")
FIND_REQUESTS = Promise("requests sent by ls and find", "", at_most=0)
MEMORY_FIND = Promise("RssAnon after find", "MiB", at_most=160)


def first_time(bench: Bench) -> None:
    """Mount the whole packaged index where nothing has been built yet."""
    for number in range(bench.runs):
        with bench.mounted("--archive", CLOSED_PORT_URL, cache=f"first-{number}") as mount:
            bench.record(FIRST_LS_NEW, mount.seconds + seconds_of(["ls", mount.path]))


def again(bench: Bench) -> None:
    """Mount it again, list the top and the collection with most patients."""
    with bench.mounted("--archive", CLOSED_PORT_URL, cache="built"):
        pass
    for _ in range(bench.runs):
        with bench.mounted("--archive", CLOSED_PORT_URL, cache="built") as mount:
            bench.record(FIRST_LS, mount.seconds + seconds_of(["ls", mount.path]))
            bench.record(MEMORY_LS, memory_of(mount.pid).anonymous)
            bench.record(LS_NLST, seconds_of(["ls", mount.path / "nlst"]))


def find(bench: Bench) -> None:
    """Walk every directory of the packaged index, down to the series: once, it takes minutes."""
    with bench.mounted("--archive", CLOSED_PORT_URL, cache="built") as mount:
        started = time.perf_counter()
        directories = count_found(mount.path)
        seconds = time.perf_counter() - started
        bench.record(FIND_SECONDS, seconds)
        bench.record(FIND, directories / seconds)
        bench.record(MEMORY_FIND, memory_of(mount.pid).anonymous)
        bench.record(FIND_REQUESTS, status(mount.path)["counters"]["requests"])
