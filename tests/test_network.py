"""What the environment says of the way to servers."""

from __future__ import annotations

import httpx
import pytest

from idcfs import network
from idcfs.archive.transport import Transport
from idcfs.errors import UsageError
from idcfs.settings import ArchiveSettings, TransportSettings
from idcfs.stats import Stats

ALL = [*network.VARIABLES, *(name.lower() for name in network.VARIABLES)]


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ALL:
        monkeypatch.delenv(name, raising=False)


def make() -> Transport:
    return Transport(ArchiveSettings("x", "https://127.0.0.1:9/x"), TransportSettings(), Stats())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://me:secret@127.0.0.1:9"),
        ("all_proxy", "socks5h://127.0.0.1:9"),
        ("HTTP_PROXY", "foo://me:secret@127.0.0.1"),
        ("HTTP_PROXY", "http://me:secret@[::1:99"),
        ("https_proxy", "http://me:secret@127.0.0.1:99999"),
        ("HTTPS_PROXY", "http://"),
        ("NO_PROXY", "localhost,[::1"),
        ("no_proxy", "host:port"),
        ("no_proxy", "fd00::/8"),
        ("SSL_CERT_FILE", "/nonexistent.pem"),
    ],
)
def test_what_cannot_be_used_is_named_without_its_password(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    for use in (network.check, make):
        with pytest.raises(UsageError, match=f"^{name} in the environment is ") as caught:
            use()
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("HTTPS_PROXY", value)
            for value in ("http://me:secret@127.0.0.1:3128", "127.0.0.1:3128", "https://[::1]:9/", "")
        ),
        ("NO_PROXY", "localhost, 127.0.0.1,::1,10.0.0.0/8,.example.org,*.a,host:80,http://b,,*"),
        ("NO_PROXY", "http://b:80,2001:db8::1"),
    ],
)
async def test_what_can_be_used_is_used(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    async with make():
        pass


def test_what_only_httpx_finds_wrong_is_told_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise httpx.InvalidURL("secret")

    monkeypatch.setattr(httpx, "AsyncClient", refuse)
    with pytest.raises(UsageError, match=r"^what the environment says in HTTP_PROXY, .* cannot all be used$"):
        make()
