"""mount(8), umount(8) and fstab(5) know idcfs, through ``mount.idcfs``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from idcfs import mounts
from scripts.harness import IDCFS, is_mounted, status
from tests.mount.conftest import NOWHERE, logs, without_bugs
from tests.mount.helper import CHECKOUT, PLACE, Machine, machine_with_helper
from tests.mount.stage import contents
from tests.twin.client import Twin
from tests.unprivileged import only_root
from tests.waiting import eventually

pytestmark = only_root("what stands in /sbin is root's")


@pytest.fixture
def machine(tmp_path: Path, sample_catalog: Path, sample_index: Path) -> Iterator[Machine]:
    (tmp_path / "cache" / "idcfs").mkdir(parents=True, mode=0o700)
    shutil.copy(sample_catalog, tmp_path / "cache" / "idcfs")
    with without_bugs(tmp_path / "state"), machine_with_helper(tmp_path.resolve(), sample_index) as made:
        yield made


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path.resolve() / "idc"
    directory.mkdir()
    return directory


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_mount_and_umount(machine: Machine, place: Path, twin: Twin, sample: Path) -> None:
    done = machine.mount(twin.url, place, "allow_other", "cache_size=3GiB", "memory-cache=9MiB")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert contents(place) == contents(sample)
    made = mounts.mount_at(place)
    assert made is not None
    assert made.filesystem_type == "fuse.idcfs"
    assert machine.run("findmnt", "-no", "SOURCE", place).stdout == f"{twin.url}\n"
    assert "allow_other" in machine.run("findmnt", "-no", "OPTIONS", place).stdout
    report = status(place)
    assert (report["cache_size_bytes"], report["memory_cache_bytes"]) == (3 * 2**30, 9 * 2**20)
    assert machine.run("umount", place).returncode == 0
    assert not is_mounted(place)
    assert eventually(lambda: gone(report["pid"]))


def test_the_proxy_by_its_name(machine: Machine, place: Path, twin: Twin, as_proxy: Callable[[Twin], str]) -> None:
    fstab = machine.fstab((as_proxy(twin), place, f"collection=rider_twin,content=wado,index={machine.index}"))
    (machine.home / "proxy").touch()  # mount(8) takes it for what is meant
    for cwd in (machine.home, Path("/")):
        done = machine.run("mount", "-a", "-T", fstab, cwd=cwd)
        assert (done.returncode, done.stderr) == (0, "")
    assert [one.path for one in mounts.mounts()].count(place) == 1
    assert machine.run("findmnt", "-no", "SOURCE", place, cwd=Path("/")).stdout == "proxy\n"
    assert (os.listdir(place), status(place)["archive"]) == (["rider_twin"], "proxy")


def test_fstab(machine: Machine, place: Path) -> None:
    """A line as the README has it, and one that is mounted by hand, at a place with a space."""
    other = place.parent / "by hand"
    other.mkdir()
    words = f"_netdev,nofail,x-systemd.automount,comment=images,noatime,index={machine.index}"
    both = "collection=rider_twin,collection=chest_twin"
    fstab = machine.fstab(
        (NOWHERE, place, f"{words},collection=rider_twin"),
        (NOWHERE, str(other).replace(" ", r"\040"), f"noauto,user,defaults,{both},index={machine.index}"),
    )
    for _ in range(2):  # what is mounted is left alone
        done = machine.run("mount", "-a", "-T", fstab)
        assert (done.returncode, done.stderr) == (0, "")
    assert [one.path for one in mounts.mounts()].count(place) == 1
    assert os.listdir(place) == ["rider_twin"]
    assert not is_mounted(other)
    assert machine.run("mount", "-T", fstab, other).returncode == 0
    assert sorted(os.listdir(other)) == ["chest_twin", "rider_twin"]
    for mounted in (place, other):
        assert machine.run("umount", mounted).returncode == 0
    assert "mounted" in logs(machine.home / "state")


@pytest.mark.parametrize(
    "where",
    [
        "where=\"Modality IN ('XX', 'MR')\"",
        r"where=Modality IN ('XX'\, 'MR')",
        r'where="\"Modality\" IN (' + r"'XX', 'MR')" + '"',
    ],
)
@pytest.mark.parametrize("by_fstab", [False, True])
def test_a_value_may_have_commas_and_quotes(where: str, by_fstab: bool, machine: Machine, place: Path) -> None:
    if by_fstab:
        fstab = machine.fstab((NOWHERE, place, f"{where},index={machine.index}".replace(" ", r"\040")))
        done = machine.run("mount", "-T", fstab, place)
    else:
        done = machine.mount(NOWHERE, place, where)
    assert (done.returncode, done.stderr) == (0, "")
    assert status(place)["cohort"]["where"].replace('"', "") == "Modality IN ('XX', 'MR')"
    assert os.listdir(place) == ["rider_twin"]


def test_a_value_may_be_of_the_file(machine: Machine, place: Path) -> None:
    file = machine.home / "config" / "idcfs" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("collection = 'chest_twin'\nprefetch = 3\nwhere = ''")
    done = machine.mount(NOWHERE, place, "where=true")
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(place) == ["chest_twin"]
    assert machine.run("umount", place).returncode == 0
    done = machine.mount(NOWHERE, place)
    assert done.returncode == 2
    assert done.stderr == f"idcfs: --where is empty: give a condition, like Modality = 'CT' (where in {file})\n"


def test_fake_mounts_nothing_but_looks(machine: Machine, place: Path) -> None:
    done = machine.run("mount", "-f", "-v", "-t", "idcfs", NOWHERE, place, "-o", "offline,ro,umask=027")
    assert done.returncode == 0
    assert f"idcfs mount --archive={NOWHERE} --source-name={NOWHERE} --options=ro --offline" in done.stdout
    done = machine.run("mount", "-f", "-t", "idcfs", NOWHERE, place, "-o", "cache_size=much")
    assert (done.returncode, done.stderr) == (
        2,
        "idcfs: --cache-size 'much' is not a size: write it like 256MiB or 2GiB\n",
    )
    assert not is_mounted(place)


def test_what_is_mounted_cannot_be_changed(machine: Machine, place: Path) -> None:
    fstab = machine.fstab((NOWHERE, place, f"index={machine.index}"))
    assert machine.run("mount", "-T", fstab, place).returncode == 0
    done = machine.run("mount", "-T", fstab, "-o", "remount,offline", place)
    assert done.returncode == 2
    assert done.stderr == "idcfs: -o remount: what is mounted stays as it is: 'umount' it, and mount it anew\n"
    assert is_mounted(place)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("collectoin=nlst", "-o collectoin: no such option; did you mean collection?"),
        ("cach_size=1GiB", "-o cach_size: no such option; did you mean cache-size?"),
        ("allow_others", "-o allow_others: no such option; did you mean allow_other?"),
        ("nosymfollow", "-o nosymfollow: no such option; there are "),
        ("foreground", "-o foreground: no such option; "),
        ("archive=proxy", "-o archive: the archive is what stands before the directory"),
        ("collection", "-o collection: say which, with collection=…"),
        ("offline=maybe", "-o offline=maybe: give yes or no"),
        ("collection=nowhere", "--collection nowhere: the index has no such collection"),
        ("cache_dir=/proc/nothing", "the cache directory /proc/nothing cannot be"),
        ("prefetch=25", "Invalid value for '--prefetch': 25 is not in the range 0<=x<=24."),
        ("log_level=loud", "Invalid value for '--log-level': 'loud' is not one of"),
        ("umask=9", "-o umask=9: give the bits to take away in octal"),
        ("gid=-2", "-o gid=-2: give the number or the name of a group"),
        (r"where=Modalty = 'CT'", "--where: "),
    ],
)
def test_what_is_wrong_is_one_clear_line(options: str, said: str, machine: Machine, place: Path) -> None:
    done = machine.mount(NOWHERE, place, options)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"idcfs: {said}")
    assert not is_mounted(place)


def test_sloppy_passes_over_what_is_unknown(machine: Machine, place: Path) -> None:
    assert machine.run("mount", "-s", "-t", "idcfs", NOWHERE, place, "-o", f"new,index={machine.index}").returncode == 0
    assert is_mounted(place)


def test_what_is_no_archive_and_what_is_taken_is_told(machine: Machine, place: Path) -> None:
    done = machine.mount("none", place)
    assert done.returncode == 2
    assert done.stderr.startswith("idcfs: --archive 'none': give proxy, google or the URL of a DICOMweb server")
    assert machine.mount(NOWHERE, place).returncode == 0
    done = machine.mount(NOWHERE, place)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert "already" in done.stderr


def test_the_table_of_mounts_has_the_name_that_is_given(machine: Machine, place: Path) -> None:
    assert machine.mount(NOWHERE, place, r"fsname=all of it a\\b").returncode == 0
    assert machine.run("findmnt", "-no", "SOURCE", place).stdout == "all of it a\\b\n"


def test_what_the_settings_say_of_mount_options_holds(machine: Machine, place: Path) -> None:
    file = machine.home / "config" / "idcfs" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("options = 'umask=027'")
    assert machine.mount(NOWHERE, place).returncode == 0
    assert place.stat().st_mode & 0o777 == 0o750


def test_an_archive_with_a_comma_is_mounted_once(machine: Machine, place: Path) -> None:
    fstab = machine.fstab((f"{NOWHERE}/a,allow_other", place, f"index={machine.index}"))
    for _ in range(2):
        done = machine.run("mount", "-a", "-T", fstab)
        assert (done.returncode, done.stderr) == (0, "")
    assert machine.run("findmnt", "-no", "SOURCE", place).stdout == f"{NOWHERE}/a,allow_other\n"
    assert "allow_other" not in machine.run("findmnt", "-no", "OPTIONS", place).stdout


def test_make_installs_the_link(machine: Machine) -> None:
    words = ("-o", "setup", "install-mount-helper", f"VENV={machine.home}/venv")
    done = machine.run("make", "-C", CHECKOUT, *words)
    assert done.returncode == 0, done.stderr
    assert os.readlink(PLACE) == f"{machine.home}/venv/bin/mount.idcfs"


def test_mount_units_have_no_home(machine: Machine, place: Path) -> None:
    """As systemd starts them; without HOME, caches and logs are where the user database says."""
    env = {"PATH": os.environ["PATH"]}
    done = machine.run(*IDCFS, "config", "--json", env=env)
    assert done.returncode == 0
    assert f'"value": "{Path("~root").expanduser()}/.cache/idcfs"' in done.stdout
    env |= {"XDG_STATE_HOME": str(machine.home / "state"), "XDG_CONFIG_HOME": os.devnull}
    options = f"index={machine.index},cache_dir={machine.home}/cache/idcfs"
    done = machine.run("mount", "-t", "idcfs", NOWHERE, place, "-o", options, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir(place)) == ["chest_twin", "rider_twin"]
