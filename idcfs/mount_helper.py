"""The program ``mount.idcfs``, which mount(8) runs for the type ``idcfs``: its words, as those of ``idcfs mount``.

mount(8) gives it ``SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]``, the options of /etc/fstab among them, and
``rw`` unless told otherwise. What there is to say, the options of ``idcfs mount`` themselves tell.
"""

from __future__ import annotations

import getopt
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import click

from . import cli
from .commands.mount import mount
from .commands.setting import SETTINGS, check_settings
from .config import truth
from .console import in_one_line
from .errors import UsageError
from .fuse_options import OPTIONS
from .nearest import did_you_mean
from .settings import GOOGLE, PROXY

_IGNORED = frozenset(
    {"defaults", "rw", "async", "sync", "dirsync", "mand", "nomand", "silent", "loud", "iversion", "noiversion"}
    | {"diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime"}
    | {"auto", "noauto", "nofail", "_netdev", "user", "nouser", "users", "nousers"}
    | {"owner", "noowner", "group", "nogroup", "comment", "helper", "uhelper"}
)
"""Words of mount(8) and fstab(5) that are for others, or mean nothing where nothing is written.

``rw`` is one of them: mount(8) gives it to whom nothing was said.
"""


_CONFIG_HOME = "/etc"
"""Where the settings of the machine are, as in the unit of systemd for it: whoever types mount(8), or none at boot."""


def main() -> NoReturn:
    """The program."""
    os.environ.setdefault("XDG_CONFIG_HOME", _CONFIG_HOME)
    in_one_line(lambda: _mount(sys.argv[1:]))


def _mount(given: list[str]) -> None:
    try:
        switches, places = getopt.gnu_getopt(given, "sfnvN:o:t:")
    except getopt.GetoptError as error:
        raise UsageError(f"mount.idcfs: {error}") from None
    if len(places) != 2:
        raise UsageError("mount.idcfs is for mount(8): mount -t idcfs proxy DIRECTORY -o OPTION,…")
    names = {name for name, _ in switches}
    if "-N" in names:
        raise UsageError("-N: mount in the namespace itself: nsenter --mount=NAMESPACE mount -t idcfs …")
    root = click.Context(cli.main, info_name="idcfs")
    spec, directory = _as_written(places[0]), places[1]
    texts = [text for name, text in switches if name == "-o"]
    words = list(_words(spec, texts, SETTINGS, sloppy="-s" in names))
    words += ["--", directory]
    if "-v" in names:
        click.echo(shlex.join(["idcfs", "mount", *words]))
    if "-f" in names:  # do everything but mount
        with mount.make_context("mount", words, parent=root) as seen:
            check_settings(seen)
        return
    cli.main(["mount", *words])


def _as_written(spec: str) -> str:
    """``proxy``, where mount(8) has found a file of that name in its working directory and made a path of it."""
    name = Path(spec).name
    return name if Path(spec).is_absolute() and name in (PROXY, GOOGLE) else spec


def _words(spec: str, texts: list[str], known: Mapping[str, click.Option], *, sloppy: bool) -> Iterator[str]:
    """The words of ``idcfs mount``.

    :param texts: what ``-o`` gave, each time.
    :param known: the options of ``idcfs mount``, by long name.
    :param sloppy: pass over what is unknown.
    :raises UsageError: for what cannot be said in them.
    """
    yield f"--archive={spec}"
    yield f"--source-name={spec}"  # by which 'mount -a' knows that it is mounted
    known = {name: option for name, option in known.items() if name not in ("archive", "options")}
    for text in texts:
        for word in _split(text):
            name, equals, value = word.partition("=")
            if name in _IGNORED or name.startswith(("x-", "X-")):
                continue
            if name.replace("_", "-") in known:
                yield _option(name, value if equals else None, known[name.replace("_", "-")])
            elif name in OPTIONS:
                if "," in word:  # it would be taken for several
                    raise UsageError(f"-o {word}: no comma can stand in {name}")
                yield f"--options={word}"
            elif not sloppy or name == "remount":
                raise UsageError(_unknown(name, [*known, *OPTIONS]))


def _option(name: str, value: str | None, option: click.Option) -> str:
    long = name.replace("_", "-")
    if option.is_flag:
        is_set = True if value is None else truth(value)
        if is_set is None:
            raise UsageError(f"-o {name}={value}: give yes or no, or nothing for yes")
        return f"--{long}" if is_set else f"--no-{long}"
    if value is None:
        raise UsageError(f"-o {name}: say which, with {name}=…")
    return f"--{long}={value}"


def _unknown(name: str, names: list[str]) -> str:
    if name == "remount":
        return "-o remount: what is mounted stays as it is: 'umount' it, and mount it anew"
    if name == "archive":
        return "-o archive: the archive is what stands before the directory"
    hint = did_you_mean(name, names) or f"there are {', '.join(sorted(names))}"
    return f"-o {name}: no such option; {hint}"


def _split(text: str) -> list[str]:
    r"""The single options of ``a,b="c,d",e=f\,g``; as mount(8) has it, no comma ends one in quotes or after ``\``.

    :raises UsageError: if a quote is not closed.
    """
    found, quoted, rest = [""], False, iter(text)
    for character in rest:
        if character == "\\":
            following = next(rest, "")
            found[-1] += following if following in ("\\", '"', ",") else character + following
        elif character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            found.append("")
        else:
            found[-1] += character
    if quoted:
        raise UsageError(f"-o {text}: a quotation mark is not closed")
    return [word.strip() for word in found if word.strip()]


if __name__ == "__main__":
    main()
