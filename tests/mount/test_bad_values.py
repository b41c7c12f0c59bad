"""Every option of ``idcfs mount`` has a value that it does not take, and says so in one line."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from idcfs.commands.mount import mount
from scripts.harness import is_mounted
from tests.mount.commands import idcfs
from tests.mount.conftest import NOWHERE

GOOGLE = ("--archive", "google")
BAD = {
    "--archive": (("--archive", "ftp://host/x"), "--archive 'ftp://host/x': give proxy, google or the URL of a "),
    "--idc-version": ((*GOOGLE, "--idc-version", "0"), "'--idc-version': 0 is not in the range 1<=x<=9999"),
    "--google-store": ((*GOOGLE, "--google-store", "x"), "--google-store 'x': write it like projects/P/locations/L/"),
    "--quota-project": ((*GOOGLE, "--quota-project", "!"), "--quota-project '!' is not the ID of a Google project"),
    "--index": (("--index", "/nonexistent"), "--index /nonexistent: No such file or directory"),
    "--layout": (("--layout", "%Modalty"), "--layout %Modalty: no placeholder %Modalty; did you mean %Modality?"),
    "--collection": (("--collection", "rider"), "--collection rider: the index has no such collection; did you mean "),
    "--where": (("--where", "Modalty = 'CT'"), "--where: "),
    "--manifest": (("--manifest", "/nonexistent"), "--manifest /nonexistent: No such file or directory"),
    "--content": (("--content", "all"), "'--content': 'all' is not one of 'auto', 'wado', 'bucket'"),
    "--bucket": (("--bucket", "mine"), "--bucket 'mine': give aws, gcs or a bucket's URL"),
    "--exact-sizes": (("--exact-sizes=yes",), "'--exact-sizes' does not take a value"),
    "--cache-dir": (("--cache-dir", "/dev/null"), "the cache directory /dev/null cannot be made: File exists"),
    "--cache-size": (("--cache-size", "much"), "--cache-size 'much' is not a size: write it like 256MiB or 2GiB"),
    "--memory-cache": (("--memory-cache", "1MiB"), "--memory-cache 1MiB: give at least 2MiB"),
    "--prefetch": (("--prefetch", "25"), "'--prefetch': 25 is not in the range 0<=x<=24"),
    "--offline": (("--offline=yes",), "'--offline' does not take a value"),
    "--timeout": (("--timeout", "0"), "--timeout 0: give 0.1 to 86400 seconds"),
    "--options": (("-o", "allow_others"), "-o allow_others: no such option; did you mean allow_other?"),
    "--metrics-port": (("--metrics-port", "65536"), "'--metrics-port': 65536 is not in the range 0<=x<=65535"),
    "--foreground": (("--foreground=yes",), "'--foreground' does not take a value"),
    "--log-level": (("--log-level", "loud"), "'--log-level': 'loud' is not one of 'debug', 'info', 'warning', 'error'"),
}
"""For each option words with such a value, and what is said."""


def test_every_option_is_tried() -> None:
    options = [one for one in mount.params if isinstance(one, click.Option) and not one.hidden]
    assert {word for one in options for word in one.opts if word.startswith("--")} == set(BAD)


@pytest.mark.parametrize("option", BAD)
def test_a_bad_value_is_one_clear_line(option: str, tmp_path: Path, sample_index: Path) -> None:
    words, said = BAD[option]
    place = tmp_path / "mnt"
    usual = ("--archive", NOWHERE, "--index", sample_index, "--cache-dir", tmp_path / "cache")
    done = idcfs("mount", place, *usual, *words, state=tmp_path / "state")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("idcfs: ")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert said in done.stderr
    assert not is_mounted(place)
    assert not place.exists()
