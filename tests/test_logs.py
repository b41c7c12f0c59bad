"""The log: what is written of the same warning a thousand times."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from idcfs import logs
from idcfs.errors import UsageError
from idcfs.logs import MAX_FOLLOWED, WINDOW_SECONDS, OncePerMinute


@dataclass
class Log:
    """A logger of its own, with the filter, and a clock that stands still until it is moved."""

    logger: logging.Logger
    written: io.StringIO
    now: float = 0.0

    @property
    def lines(self) -> list[str]:
        return self.written.getvalue().splitlines()


@pytest.fixture
def log() -> Iterator[Log]:
    logger = logging.getLogger("tests")
    logger.propagate, logger.level = False, logging.INFO
    made = Log(logger, io.StringIO())
    handler = logging.StreamHandler(made.written)
    handler.addFilter(OncePerMinute(handler, lambda: made.now))
    logger.addHandler(handler)
    yield made
    logger.removeHandler(handler)
    handler.close()


def test_the_same_warning_is_written_once_a_minute_with_how_often_it_came(log: Log) -> None:
    for number in range(43):
        log.now = float(number)
        log.logger.warning("%s is away", "the archive")
    assert log.lines == ["the archive is away"]
    log.now = WINDOW_SECONDS
    log.logger.warning("the archive is away")
    assert log.lines[1:] == ["the archive is away (42 more times in the last 60 s)", "the archive is away"]
    log.now = 2 * WINDOW_SECONDS - 1
    log.logger.warning("the archive is away")
    assert len(log.lines) == 3


def test_whatever_is_logged_next_brings_what_is_due(log: Log) -> None:
    log.logger.warning("away")
    log.logger.error("away")
    log.logger.error("away")
    log.now = 3_600
    log.logger.info("unmounted")
    assert log.lines == ["away", "away", "away (once more in the last 60 s)", "unmounted"]
    log.now = 7_200
    log.logger.info("again")
    assert log.lines[4:] == ["again"]


def test_a_summary_tells_when_the_last_one_came(log: Log) -> None:
    log.logger.handlers[0].setFormatter(logging.Formatter("%(created)d %(levelname)s %(name)s %(message)s"))
    for created in (5, 6, 7):
        log.logger.handle(record("away", logging.WARNING, created))
    log.now = 100
    log.logger.handle(record("ok", logging.INFO, 99))
    assert log.lines == ["5 WARNING x away", "7 WARNING x away (2 more times in the last 60 s)", "99 INFO x ok"]


def test_of_one_kind_the_first_is_written_and_then_how_many_more(log: Log) -> None:
    for number in range(4):
        log.logger.info("file %d comes from its bucket", number, extra={"kind": "from its bucket"})
    log.logger.info("file 4 comes from elsewhere", extra={"kind": "from elsewhere"})
    assert log.lines == ["file 0 comes from its bucket", "file 4 comes from elsewhere"]
    log.now = WINDOW_SECONDS
    log.logger.info("unmounted")
    summary = "file 3 comes from its bucket (the last of 3 more of its kind in the last 60 s)"
    assert log.lines[2:] == [summary, "unmounted"]


def record(words: str, level: int, created: float) -> logging.LogRecord:
    made = logging.LogRecord("x", level, "file.py", 1, words, None, None)
    made.created = created
    return made


def test_other_words_another_level_and_another_logger_are_another_warning(log: Log) -> None:
    child = log.logger.getChild("child")
    log.logger.warning("%s is away", "one")
    log.logger.warning("%s is away", "two")
    log.logger.error("one is away")
    child.warning("one is away")
    assert log.lines == ["one is away", "two is away", "one is away", "one is away"]


def test_information_and_tracebacks_are_never_held_back(log: Log) -> None:
    for _ in range(3):
        log.logger.info("mounted")
        try:
            raise KeyError("why")
        except KeyError:
            log.logger.exception("a bug")
    assert log.lines.count("mounted") == log.lines.count("a bug") == log.lines.count("KeyError: 'why'") == 3


def test_a_thousand_different_warnings_do_not_fill_the_memory(log: Log) -> None:
    log.logger.warning("first")
    log.logger.warning("first")
    for number in range(3 * MAX_FOLLOWED):
        log.logger.warning("number %d", number)
    [only] = [found for found in log.logger.handlers[0].filters if isinstance(found, OncePerMinute)]
    assert len(only._windows) <= MAX_FOLLOWED + 1
    assert len(log.lines) == 3 * MAX_FOLLOWED + 2
    assert log.lines.count("first (once more in the last 60 s)") == 1


def test_threads_lose_no_count(log: Log) -> None:
    def complain() -> None:
        for _ in range(500):
            log.logger.warning("away")

    threads = [threading.Thread(target=complain) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.now = WINDOW_SECONDS
    log.logger.info("done")
    assert log.lines == ["away", "away (3,999 more times in the last 60 s)", "done"]


def test_what_is_held_back_at_the_end_is_told_once(log: Log) -> None:
    for words in ("away", "away", "away", "back", "slow", "slow"):
        log.logger.warning(words)
    [only] = [found for found in log.logger.handlers[0].filters if isinstance(found, OncePerMinute)]
    only.tell_rest()
    assert log.lines[3:] == ["away (2 more times in the last 60 s)", "slow (once more in the last 60 s)"]
    only.tell_rest()
    log.now = 3_600
    log.logger.info("unmounted")
    assert log.lines[5:] == ["unmounted"]


def logging_in_a_process(file: Path | None, level: str, words: str) -> str:
    """What a process prints that begins so, and then does what ``words`` say: the root logger is everybody's here."""
    code = f"import logging; from pathlib import *; from idcfs import logs; logs.start({file!r}, {level!r})"
    done = subprocess.run([sys.executable, "-c", f"{code}; {words}"], capture_output=True, text=True, check=True)
    return done.stderr


HOSTILE = "said \x1b]0;pwned\x07\x1b[2J\u202e\udc9b \r\n2026-01-01 00:00:00 INFO idcfs.x: all is well"


@pytest.mark.parametrize("is_file", [True, False])
def test_what_others_say_is_one_line_that_no_terminal_obeys(is_file: bool, tmp_path: Path) -> None:
    file = tmp_path / "mnt.log" if is_file else None
    words = f"said = {HOSTILE!r}; logging.getLogger('idcfs.x').warning('%s', said)"
    words = f"{words}\ntry:\n  raise ValueError(said)\nexcept ValueError:\n  logging.exception('a bug')"
    shown = logging_in_a_process(file, "info", words)
    text = file.read_text() if file else shown
    first, *rest = text.split("\n")
    assert first.endswith(r"said \x1b]0;pwned\x07\x1b[2J\u202e\udc9b \r\n2026-01-01 00:00:00 INFO idcfs.x: all is well")
    assert rest[1] == "Traceback (most recent call last):"
    assert text.replace("\n", "").isprintable()


def test_of_a_message_without_end_the_beginning_is_written() -> None:
    [line] = logging_in_a_process(None, "info", "logging.warning('x' * 10**7)").splitlines()
    assert len(line) == 8 * 1024
    assert line.endswith("xx…")


REQUEST = "logging.getLogger('httpx').info('a request')"
AWAY = "[logging.getLogger('idcfs.x').warning('away') for _ in range(3)]"


def test_a_log_file_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "state" / "mnt.log"
    assert not logging_in_a_process(file, "info", f"{AWAY}; {REQUEST}")
    assert file.parent.stat().st_mode & 0o777 == 0o700
    away, rest = file.read_text().splitlines()
    assert away.endswith("WARNING idcfs.x: away")
    assert rest.endswith("WARNING idcfs.x: away (2 more times in the last 60 s)")  # though nothing was logged after it


def test_debug_shows_requests_too_and_without_a_file_the_log_is_stderr() -> None:
    [away, request, _] = logging_in_a_process(None, "debug", f"{AWAY}; {REQUEST}").splitlines()
    assert away.endswith("WARNING idcfs.x: away")
    assert request.endswith("INFO httpx: a request")


def test_a_warning_whose_words_do_not_fit_harms_nobody() -> None:
    said = logging_in_a_process(None, "info", f"logging.warning('%d', 'no number'); {AWAY}")
    assert "no number" in said
    assert "WARNING idcfs.x: away\n" in said


def test_a_log_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        logs.start(tmp_path / "file" / "mnt.log", "info")
