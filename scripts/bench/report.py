"""docs/benchmarks.md: what a run of the benchmark found, and first of all what falls short.

    python -m scripts.bench.report RESULTS.json DIRECTORY

makes the page in DIRECTORY, and its plots beside it in DIRECTORY/benchmarks, from results measured before. What people
have to say about it stands in DIRECTORY/benchmarks/why.md, which is never written here: a section named after a job, a
subject, ``job / subject`` or a promise says why idcfs falls short there; any other, how it was measured.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from scripts.bench import plots
from scripts.bench.markdown import NOTHING, heading, prose, sections, sections_of, slug, spread, table
from scripts.bench.ranking import FLOOR, NEAR, SLACK_BYTES, Question, Ranking, Ratio, ratio
from scripts.bench.results import Cell, Promised, Results
from scripts.bench.table import Promise, figure, measured
from scripts.harness import in_bytes

PAGE = "benchmarks.md"
BESIDE = "benchmarks"
REASONS = "why.md"


def write(results: Results, directory: Path) -> None:
    """The page, and beside it results.json and the plots."""
    beside = directory / BESIDE
    beside.mkdir(parents=True, exist_ok=True)
    (beside / "results.json").write_text(results.to_json())
    plots.draw(results, beside)
    (directory / PAGE).write_text(page(results, reasons_in(beside)))


def reasons_in(directory: Path) -> dict[str, str]:
    """The sections of the hand-written file, by their headings."""
    file = directory / REASONS
    return sections_of(file.read_text()) if file.exists() else {}


def page(results: Results, reasons: Mapping[str, str]) -> str:
    """All of docs/benchmarks.md."""
    ranking = Ranking(results)
    named = {*results.jobs, *results.subjects, *(promised.name for promised in results.promised)}
    why = {name: text for name, text in reasons.items() if set(name.split(" / ")) <= named}
    how = {name: text for name, text in reasons.items() if name not in why}
    lines = [
        *_head(results, ranking),
        *_shortfalls(results, ranking, why),
        *sections("Why, and what remains", {f"Why: {name}": text for name, text in why.items()}),
        *_ratios(results, ranking),
        *_pictures(),
        *_promises(results.promised),
        *_limits(results, ranking),
        *_figures(results, ranking),
        *_machine(results),
        *sections("How it was measured", how),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


# --- parts of the page ------------------------------------------------------------------------------------------------


def _head(results: Results, ranking: Ranking) -> Iterator[str]:
    yield "# Benchmarks"
    yield from prose(
        "idcfs beside its alternatives: the same data, the same servers, one run. What falls short comes first, "
        f"then ratios, then plain figures. The page is made from [{BESIDE}/results.json]({BESIDE}/results.json) and "
        f"from what people wrote into [{BESIDE}/{REASONS}]({BESIDE}/{REASONS}); measured, and made again without "
        "measuring, by"
    )
    again = f"python -m scripts.bench.report docs/{BESIDE}/results.json docs"
    yield from ("", "```sh", results.command, again, "```")
    (first, among), (first_mount, among_mounts) = ranking.standing(), ranking.standing(mounts=True)
    yield from prose(
        f"Taken {results.taken}, commit {results.commit}; runs: {results.runs}, of which the median is shown. Of those "
        f"that read from the same server and get it right, idcfs is first, or within {NEAR - 1:.0%} of the first, in "
        f"**{first} of {among}** comparisons; beside the other mounts alone, in **{first_mount} of {among_mounts}**."
    )


def _shortfalls(results: Results, ranking: Ranking, why: Mapping[str, str]) -> Iterator[str]:
    missed = [(p.name, _bound(p), _promised(p), _link(why, p.name)) for p in results.promised if _missed(p)]
    slower, wasteful = [], []
    for mine in ranking.ours:
        for job, cache in ranking.tasks:
            questions = [Question(job, cache, delay) for delay in ranking.delays]
            ahead = [ranking.behind(mine, question) for question in questions]
            if any(ahead):
                link = _link(why, job, *(found[0].subject for found in ahead if found))
                slower.append((job, cache, mine, *(_behind(found) for found in ahead), link))
            thriftier = [ranking.thriftier(mine, question) for question in questions]
            if any(thriftier):
                link = _link(why, job, *(found[1].subject for found in thriftier if found))
                wasteful.append((job, cache, mine, *(_more(found) for found in thriftier), link))
    header = ("job", "cache", "idcfs", *(f"{delay} ms" for delay in ranking.delays), "why")
    seen = ("subject", "job", "", "where", "what was seen")
    lines = [
        *table(("promised", "bound", "measured", "why"), missed, title="Promises missed"),
        *table(header, slower, title="Not first: times the seconds of the fastest"),
        *table(header, wasteful, title="More moved than another, in MB"),
        *table(seen, _failures(results, ranking), title="What was wrong, whoever did it, and what idcfs did not do"),
    ]
    yield from heading(2, "What falls short")
    if slower or wasteful:
        yield from prose(
            f"In the tables of times and bytes, {NOTHING} says that nobody who did it right is ahead by more than "
            f"{NEAR - 1:.0%}; bytes count only where they are more than {in_bytes(SLACK_BYTES)} apart. Where idcfs was "
            "wrong, or did not do it, stands below them."
        )
    yield from lines or prose("Nothing.")


def _failures(results: Results, ranking: Ranking) -> list[tuple[str, ...]]:
    """A row per subject, job and what went wrong."""
    places: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for cell in results.cells:
        place = f"{cell.cache} {cell.delay_ms} ms"
        if cell.correct is False:
            places[cell.subject, cell.job, "**wrong**", cell.note].append(place)
        elif cell.subject in ranking.ours and not cell.seconds:
            places[cell.subject, cell.job, "not measured", cell.note].append(place)
    return [(subject, job, what, ", ".join(found), note) for (subject, job, what, note), found in places.items()]


def _ratios(results: Results, ranking: Ranking) -> Iterator[str]:
    yield from heading(2, "Ratios")
    yield from prose(
        "Seconds, as times those of idcfs over the same server (idcfs = 1, its seconds beside it): more than 1 is "
        "slower than idcfs. They are taken round by round, as all subjects take turns in each; the median is followed "
        f"by the least and the most. Bold: faster than idcfs by more than {NEAR - 1:.0%}. Crossed out: wrong. "
        f"{NOTHING}: not measured, and why is with the [figures](#figures)."
    )
    for delay in ranking.delays:
        for cache in ranking.caches:
            rows = [
                (job, *(_ratio(ranking, subject, Question(job, cache, delay)) for subject in results.subjects))
                for job, kind in ranking.tasks
                if kind == cache
            ]
            yield from table(("job", *results.subjects), rows, title=f"{cache.capitalize()}, {delay} ms")


def _pictures() -> Iterator[str]:
    yield from heading(2, "Pictures")
    for name, question in plots.PLOTS.items():
        yield from ("", f"![{question}]({BESIDE}/{name}.svg)")


def _promises(promised: Sequence[Promised]) -> Iterator[str]:
    yield from heading(2, "What idcfs promises")
    yield from prose(
        "Medians, with the least, the most, and how many; what begins with … explains what stands above it."
    )
    rows = [(p.name, _promised(p), _bound(p), _verdict(p)) for p in promised]
    yield from table(("", "measured", "bound", ""), rows)


def _limits(results: Results, ranking: Ranking) -> Iterator[str]:
    yield from heading(2, "The limit")
    yield from prose(
        "curl with 16 connections on nginx's URLs that a job reads: what no client of nginx is likely to get below, "
        "but for the start of curl itself, some 10 ms. A mount runs already: so idcfs is below 1 where little is read. "
        "Beside it the seconds of idcfs, cold, as times the limit's."
    )
    rows = [
        (
            limit.job,
            f"{limit.delay_ms} ms",
            measured(limit.seconds, "") if limit.seconds else NOTHING,
            spread(_megabytes(limit.bytes_moved)),
            *(_to_limit(ranking, mine, limit.job, limit.delay_ms, limit.seconds) for mine in ranking.limited),
        )
        for limit in results.limits
    ]
    yield from table(("job", "latency", "seconds", "MB", *ranking.limited), rows)


def _figures(results: Results, ranking: Ranking) -> Iterator[str]:
    yield from heading(2, "Figures")
    yield from prose(
        "Medians, with the least, the most, and how many. Bytes and requests are counted on the way to the server, the "
        "same for all; processor time and memory are the daemon's, or of the processes that fetch where there is none."
    )
    counted = ("MB moved", "requests", "CPU seconds", "peak RSS, MiB")
    for job in results.jobs:
        asked = [question for question in ranking.questions() if question.job == job]
        cells = [ranking.cell(subject, question) for subject in results.subjects for question in asked]
        header = ("subject", "cache", "latency", "seconds", *counted, "correct?")
        yield from table(header, [_figures_of(cell) for cell in cells if cell], title=job)


def _machine(results: Results) -> Iterator[str]:
    yield from heading(2, "The machine")
    yield from table(("", ""), list(results.machine.items()))


# --- cells of its tables ----------------------------------------------------------------------------------------------


def _figures_of(cell: Cell) -> tuple[str, ...]:
    judged = {True: "yes", False: "**no**", None: "not checked"}[cell.correct] if cell.seconds else "not measured"
    return (
        cell.subject,
        cell.cache,
        f"{cell.delay_ms} ms",
        measured(cell.seconds, "") if cell.seconds else NOTHING,
        spread(_megabytes(cell.bytes_moved)),
        spread(cell.requests),
        spread(cell.processor_seconds),
        spread(cell.peak_rss_mib),
        f"{judged}: {cell.note}" if cell.note else judged,
    )


def _times(found: Ratio) -> str:
    return spread([found.least, found.median, found.most])


def _ratio(ranking: Ranking, subject: str, question: Question) -> str:
    cell = ranking.cell(subject, question)
    if not cell or not cell.seconds:
        return NOTHING
    is_one = ranking.ours_beside(subject) == subject
    found = None if is_one else ranking.ratio(subject, question)
    plain = f"{figure(statistics.median(cell.seconds))} s"
    said = _times(found) if found else f"1 = {plain}" if is_one else plain
    faster = found is not None and found.median < 1 / NEAR and FLOOR not in subject
    return f"~~{said}~~" if cell.correct is False else f"**{said}**" if faster else said


def _behind(found: tuple[Cell, Ratio] | None) -> str:
    return f"{_times(found[1])} × {found[0].subject}" if found else NOTHING


def _more(found: tuple[Cell, Cell] | None) -> str:
    if found is None:
        return NOTHING
    mine, least = (figure(statistics.median(_megabytes(cell.bytes_moved))) for cell in found)
    return f"{mine}; {found[1].subject}: {least}"


def _to_limit(ranking: Ranking, mine: str, job: str, delay_ms: int, seconds: Sequence[float]) -> str:
    cell = ranking.cell(mine, Question(job, "cold", delay_ms))
    return _times(ratio(cell.seconds, seconds)) if cell and cell.seconds and seconds else NOTHING


def _megabytes(amounts: Sequence[int]) -> list[float]:
    return [amount / 1e6 for amount in amounts]


def _promise(promised: Promised) -> Promise:
    return Promise(promised.name, promised.unit, promised.at_most, promised.at_least)


def _promised(promised: Promised) -> str:
    return measured(promised.values, promised.unit) if promised.values else NOTHING


def _bound(promised: Promised) -> str:
    return _promise(promised).bound


def _missed(promised: Promised) -> bool:
    return bool(promised.values) and not _promise(promised).kept_by(statistics.median(promised.values))


def _verdict(promised: Promised) -> str:
    return "" if _bound(promised) == NOTHING or not promised.values else "**missed**" if _missed(promised) else "ok"


def _link(why: Mapping[str, str], name: str, *subjects: str) -> str:
    """To what somebody wrote about a job beside one of the subjects, about the job or promise, or about a subject."""
    names = [*(f"{name} / {subject}" for subject in subjects), name, *subjects]
    found = next((name for name in names if name in why), None)
    return f"[why](#{slug(f'why: {found}')})" if found else "not known"


@click.command()
@click.argument("results", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def main(results: Path, directory: Path) -> None:
    """Make the page about RESULTS in DIRECTORY."""
    try:
        found = Results.from_json(results.read_text())
    except (LookupError, TypeError, ValueError):
        raise click.BadParameter(f"{str(results)!r} is nothing that a benchmark has written.") from None
    write(found, directory)


if __name__ == "__main__":
    main()
