"""What ``mount.idcfs`` makes of what mount(8) gives it; that mount(8) does so is in tests/mount/test_mount8.py."""

from __future__ import annotations

import importlib
import shlex
import tomllib
from pathlib import Path

import pytest

from idcfs import mount_helper
from idcfs.commands.mount import mount


def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``mount.idcfs WORDS…``."""
    monkeypatch.setattr("sys.argv", ["mount.idcfs", *words])
    with pytest.raises(SystemExit) as end:
        mount_helper.main()
    said = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, said.out, said.err


def translated(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    """The words of ``idcfs mount`` for these options."""
    words = [word for text in options for word in ("-o", text)]
    code, out, err = ended(monkeypatch, capsys, "proxy", "/mnt/idc", "-fv", *words)
    assert (code, err) == (0, "")
    return shlex.split(out)[4:-2]


VALUES = {
    "idc-version": "23",
    "google-store": "projects/p/locations/l/datasets/d/dicomStores/s",
    "quota-project": "p",
    "index": "qido",
    "layout": "readable",
    "collection": "nlst",
    "where": "true",
    "manifest": "/list",
    "content": "wado",
    "bucket": "gcs",
    "cache-dir": "/var/cache/idcfs",
    "cache-size": "3GiB",
    "memory-cache": "9MiB",
    "prefetch": "3",
    "timeout": "7",
    "metrics-port": "9464",
    "log-level": "debug",
}
FLAGS = {"exact-sizes", "offline"}
NONE_OF_ITS_OWN = {"archive", "options", "foreground", "source-name"}
"""What stands before the directory, twice, what ``-o`` is, and what mount(8) would wait for."""


def test_every_option_of_mount_can_be_said() -> None:
    known = {word[2:]: one for one in mount.params for word in one.opts if word.startswith("--")}
    assert set(known) == set(VALUES) | FLAGS | NONE_OF_ITS_OWN
    settable = {name: one for name, one in known.items() if name not in ("foreground", "source-name")}
    for name in (*VALUES, *FLAGS):
        text = f"{name}={VALUES[name]}" if name in VALUES else name
        for written in (text, text.replace("-", "_", name.count("-"))):
            (word,) = list(mount_helper._words("a", [written], settable, sloppy=False))[2:]  # type: ignore[arg-type]
            assert word == f"--{text}"


@pytest.mark.parametrize(
    "option",
    [
        *("defaults", "rw", "_netdev", "noauto", "auto", "nofail", "user", "user=joe", "users", "x-systemd.automount"),
        *("x-systemd.idle-timeout=60", "X-mount.mkdir", "comment=a b", "relatime", "sync", "uhelper=x", ""),
    ],
)
def test_what_is_for_others_is_passed_over(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert translated(monkeypatch, capsys, option, f"offline,{option}") == ["--offline"]


def test_what_is_for_the_kernel_is_handed_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = translated(monkeypatch, capsys, "ro,nosuid,allow_other,uid=1000,gid=5,umask=022,noatime")
    assert words == [
        f"--options={one}" for one in ("ro", "nosuid", "allow_other", "uid=1000", "gid=5", "umask=022", "noatime")
    ]


@pytest.mark.parametrize(
    ("spec", "archive"),
    [("proxy", "proxy"), ("/tmp/proxy", "proxy"), ("/google", "google"), ("http://h/proxy", "http://h/proxy")],
)
def test_a_name_is_no_path(
    spec: str, archive: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ended(monkeypatch, capsys, spec, "/mnt/idc", "-fv")
    assert (code, err) == (0, "")
    assert shlex.split(out)[2:4] == [f"--archive={archive}", f"--source-name={archive}"]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("a,b=c", ["a", "b=c"]),
        ('a="b,c",d', ["a=b,c", "d"]),
        (r"a=b\,c,d", ["a=b,c", "d"]),
        (r'a="\"b\" LIKE \\",c', [r'a="b" LIKE ' + "\\", "c"]),
        (r"a=100\%", [r"a=100\%"]),
        (",,a, b ,", ["a", "b"]),
        ("a\\", ["a\\"]),
    ],
)
def test_commas_in_values(text: str, options: list[str]) -> None:
    assert mount_helper._split(text) == options


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("proxy",), "mount.idcfs is for mount(8): mount -t idcfs proxy DIRECTORY -o OPTION,…"),
        (("a", "b", "c"), "mount.idcfs is for mount(8)"),
        (("a", "b", "-Q"), "mount.idcfs: option -Q not recognized"),
        (("a", "b", "-o"), "mount.idcfs: option -o requires argument"),
        (("proxy", "/mnt", "-N", "/proc/1/ns/mnt"), "-N: mount in the namespace itself: nsenter --mount=NAMESPACE "),
        (("proxy", "/mnt", "-o", 'where="a'), '-o where="a: a quotation mark is not closed'),
        (("proxy", "/mnt", "-s", "-o", "remount"), "-o remount: what is mounted stays as it is"),
    ],
)
def test_what_it_cannot_use_is_one_line(
    words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ended(monkeypatch, capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"idcfs: {said}")
    assert len(err.splitlines()) == 1


def test_its_settings_are_those_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "idcfs").mkdir()
    (tmp_path / "idcfs" / "config.toml").write_text('cache-size = "much"')
    monkeypatch.setattr(mount_helper, "_CONFIG_HOME", str(tmp_path))
    assert ended(monkeypatch, capsys, "proxy", "/mnt/idc", "-f") == (0, "", "")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    code, _, err = ended(monkeypatch, capsys, "proxy", "/mnt/idc", "-f")
    assert code == 2
    assert err.endswith(f"(cache-size in {tmp_path}/idcfs/config.toml)\n")


def test_the_package_installs_it() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["mount.idcfs"].partition(":")
    assert getattr(importlib.import_module(module), name) is mount_helper.main


@pytest.mark.parametrize("option", [r"fsname=a\,allow_other", '"uid=0,allow_other"'])
def test_a_comma_in_a_value_makes_no_further_option(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ended(monkeypatch, capsys, "proxy", "/mnt/idc", "-fv", "-o", option)
    assert (code, out, err.count("no comma can stand in")) == (2, "", 1)


@pytest.mark.parametrize("spec", ["", "a\nb", "http://h/" + 5_000 * "x"])
def test_what_is_no_archive_is_refused_as_one(
    spec: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ended(monkeypatch, capsys, spec, "/mnt/idc", "-f")
    assert (code, out) == (2, "")
    assert err.startswith("idcfs: --archive")
    assert len(err) < 300


def test_a_flag_can_be_unset(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = translated(monkeypatch, capsys, "offline=no,exact-sizes=0,offline=yes")
    assert words == ["--no-offline", "--no-exact-sizes", "--offline"]
    code, out, err = ended(monkeypatch, capsys, "proxy", "/mnt/idc", "-fo", "offline=maybe")
    assert (code, out, err) == (2, "", "idcfs: -o offline=maybe: give yes or no, or nothing for yes\n")
