"""One reader: a process that does what programs do, one thing after the other, until it is told to end.

    python -m scripts.soak.reading DIRECTORY PLACE NUMBER

DIRECTORY is the soak's, PLACE that among the marks, NUMBER how many have had it before.
"""

from __future__ import annotations

import json
import random
import sys
import time
from contextlib import suppress
from pathlib import Path

from scripts.soak.calls import CallFailed, Calls
from scripts.soak.idioms import IDIOMS, Reader
from scripts.soak.marks import END, REST, Marks
from scripts.soak.truth import Truth

TRUTH, MARKS, MOUNTS, EVENTS = "truth.json", "marks", "mounts.json", "events"
"""Names in the soak's directory."""


def main(directory: Path, place: int, number: int) -> None:
    truth = Truth.load(directory / TRUTH)
    marks = Marks(directory / MARKS)
    calls = Calls(marks, place, directory / EVENTS / f"{place}-{number}.jsonl")
    mounts = {name: Path(path) for name, path in json.loads((directory / MOUNTS).read_text()).items()}
    choice = random.Random(f"{truth.seed}/{place}/{number}")
    reader = Reader(truth, calls, choice, mounts)
    while (word := marks.word) != END:
        if word == REST:
            calls.rest()
            time.sleep(0.05)
            continue
        reader.turn_to(choice.choice(list(mounts)))
        (idiom,) = choice.choices(list(IDIOMS), list(IDIOMS.values()))
        with suppress(CallFailed):
            idiom(reader)
            calls.done[idiom.__name__] += 1
        if marks.word == REST:
            calls.rest()
        calls.tell_now_and_then()
    calls.tell()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
