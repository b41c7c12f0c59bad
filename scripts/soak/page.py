"""What came out of a soak, as a page for people: docs/soak.md."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from scripts.harness import in_bytes
from scripts.soak.crowd import HANG_SECONDS
from scripts.soak.stage import CACHE_MIB, MEMORY_MIB, STAYS

_WIDTH = 120

_ABOUT = """
`make soak MINUTES={minutes:g}` lets processes read real mounts for so long, while the archive behind them fails and
comes back, readers and mounts are killed, and everything is evicted all the time. Every byte is compared with what the
archive holds, and each error with what [SEMANTICS.md](SEMANTICS.md#errors) permits for the fault of that moment; in
between none is permitted. At rests, the mounts have to have let go of everything. Taken {taken}, commit {commit}, with
`--seed` {seed}; all values are in [results.json](soak/results.json).
"""
_MACHINE = """
* Machine: {cores} cores ({processor}), {memory}, Linux {linux}, Python {python}. The archive, the buckets and all
readers ran on it as well.
"""
_ARCHIVE = """
* Archive: {series} series, {instances:,} instances, {size}; {larger_than_40_mib} instances are larger than 40 MiB. The
buckets know ranges, the archive does not.
"""
_MOUNTS = """
* Mounts: three of one cache of {cache} MiB, with {memory} MiB of memory each and a `--timeout` of {timeout:g} s. Some
were ended while they were used, half of them by `kill -9`, and made anew on the same cache: {made}.
"""
_READERS = "* Readers: {processes} at a time, {started} in all; {killed} of them ended by SIGKILL."
_GOOD = """
No promise was broken: no wrong byte, no short read, no error that the fault of the moment does not permit and none
while it was quiet, no hang; at each rest every gauge was zero; nothing grew; the cache is clean and within its limit.
"""
_STAT = """
As programs ask, which the kernel answers from what it remembers; and so that it has to ask the mount (statx with
AT_STATX_FORCE_SYNC).
"""
_REST = """
RssAnon of one process may grow by {growth:g} MiB from its first rest to its last. Its caches are full at both, but what
they hold is another each time, and the allocator has cut the heap for it otherwise. The process of `{stays}` stays
all the while; the others are made anew in the first third of the time alone, so theirs are compared from its half on.
"""
_CACHE = """
Afterwards the contents on disk took {size} of {most}. Mounts that were killed had left {unfinished} files half
written ({unfinished_size}), which the next mount removes after ten minutes. `idcfs cache verify` said:
"""


def page_of(results: dict[str, Any]) -> str:
    """The page about a soak with these results."""
    sections = [_head(results), _outcome(results), _stat(results), _rests(results), _left(results)]
    return "\n".join(line for section in sections for line in section)


def _head(results: dict[str, Any]) -> Iterator[str]:
    yield "# The soak\n"
    yield _filled(_ABOUT.format(**results))
    machine = results["machine"]
    yield _filled(_MACHINE.format(memory=f"{machine['memory_bytes'] / 2**30:.0f} GiB", **machine)).rstrip()
    archive = results["archive"]
    yield _filled(_ARCHIVE.format(size=in_bytes(archive["bytes"]), **archive)).rstrip()
    made = ", ".join(
        f"`{name}` {one['made']} in all, {one['killed']} killed" for name, one in results["mounts"].items()
    )
    told = {"cache": CACHE_MIB, "memory": MEMORY_MIB, "timeout": results["timeout_seconds"], "made": made}
    yield _filled(_MOUNTS.format(**told)).rstrip()
    yield _filled(_READERS.format(**results["readers"]))


def _outcome(results: dict[str, Any]) -> Iterator[str]:
    yield "## What came out\n"
    longest, compared = results["longest_call"]["seconds"], in_bytes(results["bytes_compared"])
    yield _filled(
        f"{sum(results['operations'].values()):,} operations, {compared} compared, {results['spells']} faults, in "
        f"{results['seconds']:.0f} s. The longest call of a program took {longest:.1f} s: it may be several of the "
        f"kernel's, as one that reads a mapped file is, each of which may wait {results['timeout_seconds']:g} s for "
        f"progress; longer than {HANG_SECONDS:g} s is a hang."
    )
    if results["broken"]:
        yield "**Promises that were broken:**\n"
        yield from (_filled(f"* {line}").rstrip() for line in results["broken"])
        yield ""
    else:
        yield _filled(_GOOD)
    rows = [(f"`{name}`", f"{count:,}") for name, count in results["operations"].items()]
    yield _table(("operation", "times"), rows)
    yield "Errors that the faults permitted, as programs saw them:\n"
    yield _table(
        ("while", "errors"),
        [
            (name, ", ".join(f"{kind} {count:,}" for kind, count in sorted(kinds.items())) or "none")
            for name, kinds in results["permitted_errors"].items()
        ],
    )


def _stat(results: dict[str, Any]) -> Iterator[str]:
    yield f"## `stat` all the while, in the mount `{STAYS}`\n"
    yield _filled(_STAT)
    rows = [
        (name, f"{times['calls']:,}", *(f"{times[part]:.3g} ms" for part in ("p50", "p99", "max")))
        for name, times in results["stat"].items()
    ]
    yield _table(("of a", "calls", "p50", "p99", "longest"), rows)


def _rests(results: dict[str, Any]) -> Iterator[str]:
    yield "## At rest\n"
    yield _filled(_REST.format(growth=results["most_growth_mib"], stays=STAYS))
    rows = []
    seen: dict[str, list[int]] = {}
    for rest in results["rests"]:
        vitals = rest["vitals"]
        pids = seen.setdefault(rest["mount"], [])
        if vitals["pid"] not in pids:
            pids.append(vitals["pid"])
        cells = (rest["mount"], len(pids), f"{vitals['anonymous_mib']:.1f} MiB", vitals["descriptors"])
        more = (vitals["sockets"], vitals["threads"], rest["gauges"]["tasks"])
        rows.append(tuple(map(str, (f"{rest['seconds']:.0f} s", *cells, *more))))
    yield _table(("at", "mount", "process", "RssAnon", "descriptors", "of them sockets", "threads", "tasks"), rows)


def _left(results: dict[str, Any]) -> Iterator[str]:
    left = results["cache"]
    told = {"size": in_bytes(left["bytes"]), "unfinished_size": in_bytes(left["unfinished_bytes"])}
    yield _filled(_CACHE.format(most=in_bytes(CACHE_MIB * 2**20), unfinished=left["unfinished_files"], **told))
    yield f"```text\n{left['verify']}\n```\n"


def _filled(text: str) -> str:
    """A paragraph, or an item of a list, as it stands in documents."""
    indent = "  " if text.lstrip().startswith("* ") else ""
    words = " ".join(text.split())
    filled = textwrap.fill(words, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return filled + "\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
