"""Where this machine's packages come from, as its apt and pip are configured; the same, written for another machine.

Nothing here knows a registry's name: apt and pip are asked, and pip's own module for what it does where it is told
nothing. A proxy that they are configured to use is not known here.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

from scripts.harness import Failure, run

_APT = Path("etc/apt")
_APT_SOURCES = ("sources.list", "sources.list.d/*.list", "sources.list.d/*.sources", "auth.conf", "auth.conf.d/*.conf")
_APT_KEYS = ("trusted.gpg", "trusted.gpg.d/*", "keyrings/*")
_KEYRINGS = "usr/share/keyrings/*"
_CERTIFICATES = "usr/local/share/ca-certificates/*.crt"
_PIP_CERT = Path("etc/ssl/pip.pem")
_PIP_OPTIONS = ("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "timeout", "default-timeout")


@dataclass(frozen=True, slots=True)
class Packages:
    """What apt and pip use here."""

    suite: str
    """Debian's or Ubuntu's name of the release, ``bookworm``."""
    mirror: str
    """The URL of that release's archive, which debootstrap takes."""
    hosts: frozenset[str]
    """Who has to be reached over the network."""
    directories: tuple[Path, ...]
    """What pip finds on this machine, absolute."""
    acquire: tuple[str, ...]
    """apt's options about fetching that differ from its own, as lines for a file of it."""
    pip: Mapping[str, str]
    """pip's options, as a file of it has them, without a proxy and certificates."""
    pip_cert: Path | None
    """Whom pip trusts here, if it is told."""

    def write(self, root: Path, proxy: str) -> None:
        """Configure apt and pip of the machine below ``root`` in the same way, but for ``proxy``, their way out."""
        _copy(_APT_SOURCES, _APT, root)
        _copy(_APT_KEYS, _APT, root)
        _copy([_KEYRINGS, _CERTIFICATES], Path(), root)
        ways = [f'Acquire::{scheme}::Proxy "{proxy}";' for scheme in ("http", "https")]
        (root / _APT / "apt.conf.d/90fresh").write_text("\n".join([*self.acquire, *ways, ""]))
        options = {**self.pip, "proxy": proxy}
        if self.pip_cert is not None:
            (root / _PIP_CERT).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.pip_cert, root / _PIP_CERT)
            options["cert"] = f"/{_PIP_CERT}"
        lines = [f"{name} = {value}".replace("\n", "\n    ") for name, value in options.items()]
        (root / "etc/pip.conf").write_text("\n".join(["[global]", *lines, ""]))


def of_this_machine(also: Iterable[str] = ()) -> Packages:
    """What apt and pip use here.

    :param also: more hosts, such as one to which a mirror redirects.
    :raises Failure: if apt or pip does not tell, or a proxy stands in front of them.
    """
    suite = _release()
    urls = re.findall(r"^'([^']+)'", run(["apt-get", "update", "--print-uris"]), re.MULTILINE)
    dump = run(["apt-config", "dump"])
    pip = pip_options(run([sys.executable, "-m", "pip", "config", "list"]))
    if (
        getproxies().keys() & {"http", "https"}
        or "proxy" in pip
        or re.search(r"^Acquire::https?::Proxy \"\w", dump, re.MULTILINE)
    ):
        raise Failure("apt or pip uses a proxy here, and through that a fresh machine is not led")
    cert = pip.pop("cert", None)
    places = pip_places(pip)
    remote = {urlsplit(url).hostname for url in [*urls, *places] if "://" in url and not url.startswith("file:")}
    return Packages(
        suite=suite,
        mirror=_mirror(urls, suite),
        hosts=frozenset({*(host for host in remote if host), *also} | _pip_own(pip)),
        directories=local_directories(places),
        acquire=acquire_options(dump),
        pip={name: pip[name] for name in pip if name in _PIP_OPTIONS},
        pip_cert=Path(cert) if cert else None,
    )


def pip_options(listed: str) -> dict[str, str]:
    """pip's options by name, from what ``pip config list`` says; the environment goes before files."""
    found = re.findall(r"^(global|install|:env:)\.([\w-]+)=(.*)$", listed, re.MULTILINE)
    found.sort(key=lambda one: one[0] == ":env:")
    return {name: ast.literal_eval(value) for _, name, value in found}


def pip_places(options: Mapping[str, str]) -> list[str]:
    """Every URL and directory in which pip looks."""
    words = " ".join(options.get(name, "") for name in ("index-url", "extra-index-url", "find-links"))
    return words.split()


def local_directories(places: Iterable[str]) -> tuple[Path, ...]:
    """Those of ``places`` that are on this machine, absolute."""
    paths = (unquote(place.removeprefix("file://")) for place in places if "://" not in place or place[:5] == "file:")
    return tuple(sorted({Path(path).resolve() for path in paths if Path(path).exists()}))


def acquire_options(dump: str) -> tuple[str, ...]:
    """apt's options about fetching, from what ``apt-config dump`` says; not which files are fetched."""
    lines = re.findall(r"^Acquire::(?!IndexTargets|cdrom|Changelogs|https?::Proxy)\S+ \"[^\"]+\";$", dump, re.MULTILINE)
    return tuple(lines)


def _pip_own(options: Mapping[str, str]) -> set[str]:
    """Who pip asks where no index is set: pip knows them itself."""
    if "index-url" in options or "no-index" in options:
        return set()
    code = (
        "import json; from pip._internal.models.index import PyPI as index;"
        "print(json.dumps([index.netloc, index.file_storage_domain]))"
    )
    hosts: list[str] = json.loads(run([sys.executable, "-c", code]))
    return set(hosts)


def _release() -> str:
    words: dict[str, str] = dict(re.findall(r'^(\w+)="?([^"\n]*)', Path("/etc/os-release").read_text(), re.MULTILINE))
    if "VERSION_CODENAME" not in words:
        raise Failure("/etc/os-release names no release of Debian or Ubuntu")
    return words["VERSION_CODENAME"]


def _mirror(urls: Iterable[str], suite: str) -> str:
    end = f"/dists/{suite}/InRelease"
    for url in urls:
        if url.endswith(end):
            return url.removesuffix(end)
    raise Failure(f"apt is not configured for {suite} here")


def _copy(patterns: Iterable[str], below: Path, root: Path) -> None:
    """Copy this machine's files to the same place below ``root``, but what is there already."""
    for pattern in patterns:
        for path in (Path("/") / below).glob(pattern):
            target = root / path.relative_to("/")
            if path.is_file() and (not target.exists() or below == _APT):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
