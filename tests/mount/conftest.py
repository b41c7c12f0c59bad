"""Real mounts for tests: made by the command, taken off whatever happens."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from idcfs.commands.umount import umount
from idcfs.namespace.index import open_catalog
from scripts import harness
from scripts.harness import Mount, mounted
from tests.twin.client import Twin
from tests.unprivileged import NOBODY

NOWHERE = harness.NOWHERE

EVICTING = ("--memory-cache", "2MiB", "--cache-size", "8MiB")
"""Every tier evicts all the time."""
PROXY_VARIABLE = "IDCFS_PROXY_URL"
"""Where ``--archive proxy`` is; of it alone a daily quota is known."""
STRICT = {"PYTHONWARNINGS": "error"}
"""Warnings are errors in the mount's process too."""
SIGNS_OF_A_BUG = ("Traceback", "this is a bug", "Warning:")
"""What no log may contain, whatever an archive did."""

MountMaker = Callable[..., Mount]


@pytest.fixture(scope="session")
def sample_catalog(sample_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalog of the sample index, built once: building takes a second, and most mounts need it."""
    cache = tmp_path_factory.mktemp("catalog")
    open_catalog(str(sample_index), cache)
    (catalog,) = cache.glob("catalog-*.arrow")
    return catalog


@pytest.fixture
def mount(tmp_path: Path, sample_catalog: Path) -> Iterator[MountMaker]:
    """``mount(URL, *options, at=…, cache=…)`` → a mount that lives as long as the test."""
    state = tmp_path / "state"
    (tmp_path / "cache").mkdir(mode=0o700)
    shutil.copy(sample_catalog, tmp_path / "cache")
    with without_bugs(state), contextlib.ExitStack() as stack:

        def make(archive: str, *options: str | Path, at: str = "mnt", cache: Path | None = None) -> Mount:
            directory = tmp_path.resolve() / at
            where = ("--archive", archive, "--cache-dir", cache or tmp_path / "cache")
            mount = mounted(directory, *where, *options, state_dir=state, env={**os.environ, **STRICT})
            made = stack.enter_context(mount)
            stack.callback(take_off, made)
            return made

        yield make


def take_off(mount: Mount) -> None:
    """What ``idcfs umount`` does, in this process: starting one for each test takes a third of all that a mount costs.

    That the command does it too is test_lifecycle's to show.
    """
    if harness.is_mounted(mount.path):
        assert umount.callback is not None
        umount.callback(mount.path, lazy=False)


@pytest.fixture
def words(tmp_path: Path, sample_index: Path) -> tuple[str | Path, ...]:
    """Options of a mount that asks nobody."""
    return "--archive", NOWHERE, "--index", sample_index, "--cache-dir", tmp_path / "cache"


@pytest.fixture
def made(mount: MountMaker, twin: Twin, sample_index: Path) -> Mount:
    """A mount of the sample archive, over ``twin``."""
    return mount(twin.url, "--index", sample_index)


@pytest.fixture
def as_proxy(monkeypatch: pytest.MonkeyPatch) -> Callable[[Twin], str]:
    """Makes a twin the public proxy, and gives its name."""

    def make(twin: Twin) -> str:
        monkeypatch.setenv(PROXY_VARIABLE, twin.url)
        return "proxy"

    return make


@contextlib.contextmanager
def fuse_device() -> Iterator[Path]:
    """``/dev/fuse``, whose mode may be changed: by one test process at a time, and until the end only."""
    device = Path("/dev/fuse")
    lock = os.open(device.parent, os.O_RDONLY | os.O_DIRECTORY)  # the machine's: each checkout may have a TMPDIR
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        mode = stat.S_IMODE(device.stat().st_mode)
        try:
            yield device
        finally:
            device.chmod(mode)
    finally:
        os.close(lock)


@contextlib.contextmanager
def users_home() -> Iterator[Path]:
    """A directory of nobody's, if root runs the tests, else of who runs them, who may mount there meanwhile.

    Not pytest's, which is for its owner alone: fusermount3 looks at the way there with the user's eyes.
    """
    with contextlib.ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="idcfs-home-")).resolve()
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        if os.geteuid() == 0:
            os.chown(home, NOBODY, NOBODY)
            stack.enter_context(fuse_device()).chmod(0o666)
        yield home


@contextlib.contextmanager
def without_bugs(state_dir: Path) -> Iterator[None]:
    """Fails at the end if a log of the mounts made within tells of a bug."""
    yield
    bugs = [line for line in logs(state_dir).splitlines() if any(sign in line for sign in SIGNS_OF_A_BUG)]
    assert not bugs, logs(state_dir)


def logs(state_dir: Path) -> str:
    """All that the mounts with this state directory have logged."""
    return "".join(path.read_text() for path in sorted(state_dir.glob("idcfs/*.log*")))


@pytest.fixture(scope="session")
def packaged_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory for all mounts of the packaged index, so that its catalog is built once."""
    return tmp_path_factory.mktemp("packaged")


@pytest.fixture
def log_of(tmp_path: Path) -> Callable[[], str]:
    """The logs of the test's mounts so far."""
    return lambda: logs(tmp_path / "state")
