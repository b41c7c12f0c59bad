"""What a command would serve, without a mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from idcfs import cli, mounts
from idcfs.settings import MountSettings


def settings_of(*words: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> MountSettings:
    """What ``idcfs mount`` with these words would serve."""
    served: list[MountSettings] = []
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    monkeypatch.setattr(mounts, "prepare", lambda *_, **__: False)
    monkeypatch.setattr("idcfs.logs.start", lambda *_: None)
    monkeypatch.setattr("idcfs.commands.mount._serve", lambda settings, *_: served.append(settings))
    with pytest.raises(SystemExit) as ended:
        cli.main(["mount", "-f", str(home / "mnt"), *words])
    assert ended.value.code == 0
    (settings,) = served
    return settings
