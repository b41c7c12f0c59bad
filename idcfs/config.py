"""Settings that were not given on the command line: the user's file, and the environment, which goes before it.

Both know them by the long options of ``idcfs mount``: ``cache-size`` in the file is ``IDCFS_CACHE_SIZE`` in the
environment. Whichever command has one of these options takes it from there as well.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from . import trust, xdg
from .errors import UsageError
from .nearest import did_you_mean

_PREFIX = "IDCFS_"
_MOST_BYTES = 1024 * 1024
"""Of the file: one of all settings has a few hundred."""
_INTEGERS = range(-(2**63), 2**63)
"""What TOML has at least; beyond, numbers cannot all be made of them."""
_META = "idcfs.elsewhere"
"""Where a command's context has what was found elsewhere."""


class Setting(NamedTuple):
    """What the file or the environment says of one option."""

    value: Any
    source: str
    """``file`` or ``environment``."""
    place: str
    """Where exactly, in words."""


def config_file() -> Path:
    """The user's file of settings (XDG); it need not be there."""
    return xdg.config() / "config.toml"


def options_of(command: click.Command) -> list[click.Option]:
    """The options of ``command``, in their order."""
    return [one for one in command.params if isinstance(one, click.Option)]


def long_name(option: click.Option) -> str:
    """``cache-size`` of ``--cache-size``."""
    return next(word for word in option.opts if word.startswith("--")).removeprefix("--")


def variable(name: str) -> str:
    """What ``cache-size`` is called in the environment."""
    return _PREFIX + name.replace("-", "_").upper()


def truth(text: str) -> bool | None:
    """What ``text``, ``yes`` or ``no`` and click's other words for them, says of a flag; None if it says nothing."""
    try:
        return bool(click.BOOL.convert(text, None, None))
    except click.BadParameter:
        return None


def elsewhere(known: Mapping[str, click.Option]) -> dict[str, Setting]:
    """What the file and the environment say, by the options' names in Python.

    :param known: what there is to set, by long name.
    :raises UsageError: if the file cannot be used.
    """
    return _of_file(config_file(), known) | _of_environment(known)


def unknown_variables(known: Iterable[str], others: Collection[str]) -> list[str]:
    """A line for each variable that looks like a setting but is none.

    :param known: what there is to set, by long name.
    :param others: variables that are used, but are no settings.
    """
    bare = [variable(name).removeprefix(_PREFIX) for name in known]
    lines = []
    for name in sorted(name for name in os.environ if name.startswith(_PREFIX) and name not in others):
        if (rest := name.removeprefix(_PREFIX)) not in bare:
            hint = did_you_mean(rest, bare, _PREFIX)
            lines.append(f"{name} in the environment is no setting" + (hint and f"; {hint}"))
    return lines


class Configured(click.Command):
    """A command whose options the file and the environment may set; what goes wrong with those names them."""

    known: Mapping[str, click.Option]
    """What there is to set, by long name: what the command itself does not have is looked at all the same."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        fault: UsageError | None = None
        if not ctx.resilient_parsing:
            try:
                ctx.meta[_META] = found = elsewhere(self.known)
                own = {one.name for one in self.params}
                ctx.default_map = {name: setting.value for name, setting in found.items() if name in own}
            except UsageError as error:
                fault = error
        with naming_places(ctx):
            rest = super().parse_args(ctx, args)  # --help ends it here: help is for whom the settings fail, too
        if fault is not None:
            raise fault
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        with naming_places(ctx):
            return super().invoke(ctx)


def setting_of(ctx: click.Context, option: click.Option) -> Setting | None:
    """What set ``option`` of this command from elsewhere; None if nothing did, or the command line goes before it."""
    if ctx.get_parameter_source(option.name) is not ParameterSource.DEFAULT_MAP:
        return None
    found: dict[str, Setting] = ctx.meta[_META]
    return found[option.name]


def is_given(ctx: click.Context, name: str) -> bool:
    """Whether the command line itself gave the option, by its name in Python."""
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


@contextmanager
def naming_places(ctx: click.Context) -> Iterator[None]:
    """Whatever is wrong with an option that was set elsewhere is told with the place where that is.

    Which option that is, the message says: each names those that it is about as a user writes them. No attribute says
    it: what is wrong with --index, --collection or --where is found in other processes, that of the mount and that
    which builds the catalog, of which only text comes back; and what is found here would need it in thirty places.

    :raises UsageError: in the place of one, or of click's, that names such an option.
    """
    try:
        yield
    except (click.UsageError, UsageError) as error:
        message = error.format_message() if isinstance(error, click.UsageError) else str(error)
        named = [one for one in options_of(ctx.command) if any(_mentions(message, word) for word in one.opts)]
        places = [setting.place for one in named if (setting := setting_of(ctx, one))]
        if not places:
            raise
        raise UsageError(f"{' '.join(message.split()).removesuffix('.')} ({', '.join(places)})") from None


def _mentions(message: str, word: str) -> bool:
    return bool(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", message))


def _of_environment(known: Mapping[str, click.Option]) -> dict[str, Setting]:
    """Empty variables count as none."""
    found = {}
    for name, option in known.items():
        if (text := os.environ.get(variable(name), "")).strip():
            place = f"{variable(name)} in the environment"
            value = re.findall(r"[^\s,]+", text) if option.multiple else text
            if option.is_flag and truth(text) is None:
                raise UsageError(f"--{name}: give yes or no ({place})")
            found[str(option.name)] = Setting(value, "environment", place)
    return found


def _of_file(file: Path, known: Mapping[str, click.Option]) -> dict[str, Setting]:
    found = {}
    for name, value in _written(file).items():
        if isinstance(value, dict):
            raise UsageError(f"[{name}] in {file}: settings stand in no table; there are {', '.join(known)}")
        if name not in known:
            hint = did_you_mean(name, known) or f"there are {', '.join(known)}"
            raise UsageError(f"{name} in {file}: no such setting; {hint}")
        place = f"{name} in {file}"
        found[str(known[name].name)] = Setting(_checked(value, known[name], place), "file", place)
    return found


def _written(file: Path) -> dict[str, Any]:
    """What stands in ``file``; nothing, if it is not there.

    :raises UsageError: if it cannot be read.
    """
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as opened:
            _trust(file, os.fstat(opened.fileno()))
            text = opened.read(_MOST_BYTES + 1) or b""
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    if len(text) > _MOST_BYTES:
        raise UsageError(f"{file} is larger than {_MOST_BYTES:,} bytes")
    try:
        return tomllib.loads(text.decode())
    except ValueError as error:  # also where it is no UTF-8
        raise UsageError(f"{file} is not TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"{file} is not TOML that can be read: it is nested too deep") from None


def _trust(file: Path, status: os.stat_result) -> None:
    """:raises UsageError: if it is no file, or somebody else may say by it what is mounted, and for whom."""
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{file} cannot be read: it is no regular file")
    if trust.is_anothers(status):
        raise UsageError(f"{file} belongs to another user: its settings are not taken")
    if trust.is_open_to_all(status):
        raise UsageError(f"everybody may write {file}: its settings are not taken before 'chmod o-w' of it")


def _checked(value: Any, option: click.Option, place: str) -> Any:
    """``value`` of TOML, as click takes it: it would make text of anything.

    :raises UsageError: if it is of another type than the option's.
    """
    if option.multiple:
        values = [value] if isinstance(value, str) else value
        if isinstance(values, list) and all(_is_text(one) for one in values):
            return values
        raise UsageError(f'{place}: give a list of strings, like ["first", "second"]')
    types, wanted = _wanted(option)
    if type(value) not in types or (isinstance(value, str) and not _is_text(value)):  # not isinstance: True is an int
        raise UsageError(f"{place}: give {wanted}")
    if type(value) is int and value not in _INTEGERS:
        raise UsageError(f"{place}: give a smaller number")
    names = (option.metavar or "").split("|")
    if {"FILE", "DIR"} & {*names} and value and value not in names and not value.startswith(("/", "~")):
        raise UsageError(f"{place}: give a path from / or ~ on: the file is read from any working directory")
    return value


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _wanted(option: click.Option) -> tuple[tuple[type, ...], str]:
    """The types that TOML may have for ``option``, and what these are in words."""
    if option.is_flag:
        return (bool,), "true or false"
    if isinstance(option.type, click.IntRange):
        return (int,), "a whole number"
    if isinstance(option.type, click.types.FloatParamType):
        return (int, float), "a number"
    if isinstance(option.type, click.Choice):
        return (str,), f"a string: {', '.join(option.type.choices)}"
    wanted = f"a string ({option.metavar})"
    return ((str,) if isinstance(option.type, click.Path) else (str, int)), wanted  # cache-size = 0
