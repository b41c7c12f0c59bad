"""Errors: each has its errno, and what it means is explained."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from idcfs import errors
from idcfs.errors import IdcfsError

ERRNOS = {
    errors.NotFound: errno.ENOENT,
    errors.Gone: errno.ESTALE,
    errors.AccessDenied: errno.EACCES,
    errors.QuotaSpent: errno.EDQUOT,
    errors.DeadlinePassed: errno.ETIMEDOUT,
    errors.NotOffered: errno.EOPNOTSUPP,
    errors.Unreachable: errno.EHOSTUNREACH,
    errors.NoConnection: errno.EHOSTUNREACH,
    errors.Damaged: errno.EIO,
    errors.Truncated: errno.EIO,
    errors.WrongSize: errno.EIO,
    errors.Replaced: errno.EIO,
    errors.NoInstance: errno.EIO,
    errors.Refused: errno.EIO,
    errors.NotADirectory: errno.ENOTDIR,
    errors.IsADirectory: errno.EISDIR,
    errors.NotALink: errno.EINVAL,
    errors.UsageError: errno.EIO,
}


def kinds(root: type[IdcfsError]) -> Iterator[type[IdcfsError]]:
    """Every error below ``root``."""
    for kind in root.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_what_a_mount_answers_is_explained_as_in_the_readme() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    for number in {*ERRNOS.values(), errno.ENOTCONN} - {errno.ENOTDIR, errno.EISDIR, errno.EINVAL}:
        assert errors.meaning_of(number)
        assert f"| {os.strerror(number)} |" in readme
    assert errors.meaning_of(errno.ENOSPC) == ""


@pytest.mark.parametrize("kind", list(kinds(IdcfsError)))
def test_each_cause_has_its_errno(kind: type[IdcfsError]) -> None:
    assert errors.errno_of(kind("what happened")) == ERRNOS[kind]


def test_a_cause_without_a_word_of_its_own_is_an_input_output_error() -> None:
    assert errors.errno_of(IdcfsError("anything")) == errno.EIO
