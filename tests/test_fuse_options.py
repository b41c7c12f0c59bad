"""What ``-o`` takes."""

from __future__ import annotations

import pytest

from idcfs.errors import UsageError
from idcfs.fuse_options import FUSE_OPTIONS, OPTIONS, parse_fuse_options
from idcfs.settings import Owner


def test_fuse_options_are_single_whatever_way_they_were_given() -> None:
    found = parse_fuse_options(("ro,allow_other", " nonempty ", "noatime,", ""))
    assert found.flags == ("ro", "allow_other", "noatime")
    assert found.may_hide_files
    nothing = parse_fuse_options(())
    assert (nothing.flags, nothing.may_hide_files, nothing.owner) == ((), False, Owner())


@pytest.mark.parametrize("text", ["rw", "ro,=1", "ro;nonempty", "RO", "subtype=x", "max_read=4096"])
def test_a_fuse_option_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"no such option; (there are allow_other, |did you mean )"):
        parse_fuse_options((text,))


def test_the_nearest_option_is_named() -> None:
    with pytest.raises(UsageError, match=r"^-o allow_others: no such option; did you mean allow_other\?$"):
        parse_fuse_options(("ro,allow_others",))


@pytest.mark.parametrize("option", sorted(FUSE_OPTIONS))
@pytest.mark.parametrize("value", ["", "0", "1"])
def test_a_fuse_option_with_a_value_is_refused(option: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"-o {option}={value}: {option} takes no value"):
        parse_fuse_options((f"{option}={value}",))


@pytest.mark.parametrize(
    ("texts", "owner"),
    [
        (("uid=1000,gid=100,umask=027",), Owner(1000, 100, 0o027)),
        (("uid=0", "umask=7"), Owner(0, None, 0o007)),
        (("uid=root,gid=root",), Owner(0, 0)),
        (("umask=000777",), Owner(umask=0o777)),
        (("uid=5", "uid=4294967294"), Owner(2**32 - 2)),
    ],
)
def test_whose_everything_is_shown_to_be(texts: tuple[str, ...], owner: Owner) -> None:
    assert parse_fuse_options(texts).owner == owner


@pytest.mark.parametrize("value", ["", "-1", "1.5", "4294967295", "99999999999", "no such user", "٣", None])
@pytest.mark.parametrize("name", ["uid", "gid"])
def test_an_owner_that_there_is_not_is_refused(name: str, value: str | None) -> None:
    what = {"uid": "user", "gid": "group"}[name]
    with pytest.raises(UsageError, match=rf"^-o {name}=.*: give the number or the name of a {what} of this machine$"):
        parse_fuse_options((name if value is None else f"{name}={value}",))


@pytest.mark.parametrize("value", ["", "8", "1000", "0o22", "-1", "u=rwx", "0000000022"])
def test_another_umask_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match=rf"^-o umask={value}: give the bits to take away in octal, from 000 to 777"):
        parse_fuse_options((f"umask={value}",))


def test_a_mount_may_be_called_by_another_name() -> None:
    assert parse_fuse_options(()).source_name == "idcfs"
    assert parse_fuse_options(("fsname=http://127.0.0.1/dicom-web",)).source_name == "http://127.0.0.1/dicom-web"
    for text in ("fsname", "fsname=", "fsname=a\nb"):
        with pytest.raises(UsageError, match="give the name that 'df' and 'mount' are to show"):
            parse_fuse_options((text,))


def test_these_alone_have_a_value() -> None:
    assert {"uid", "gid", "umask", "fsname"} == OPTIONS - FUSE_OPTIONS


def test_of_options_to_the_contrary_the_last_counts() -> None:
    assert parse_fuse_options(("suid,nosuid", "noexec", "exec,nodev,dev")).flags == ("nosuid", "exec", "dev")
    assert parse_fuse_options(("nosuid,suid",)).flags == ("suid",)


def test_a_name_is_no_longer_than_the_kernel_takes() -> None:
    assert parse_fuse_options(("fsname=" + 2_048 * "x",)).source_name == 2_048 * "x"
    with pytest.raises(UsageError, match=r"^-o fsname: give a name of at most 2,048 bytes$"):
        parse_fuse_options(("fsname=" + 1_025 * "\u00fc",))
