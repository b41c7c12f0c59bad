"""The index that the package idc-index-data carries."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from ..errors import UsageError

_PACKAGE = "idc-index-data"
_PARQUET = "idc_index_data/idc_index.parquet"


def packaged_version() -> str:
    """The version of the package.

    :raises UsageError: if it is not installed.
    """
    try:
        return version(_PACKAGE)
    except PackageNotFoundError:
        raise UsageError(f"the package {_PACKAGE} is not installed: install it, or give --index FILE") from None


def packaged_parquet() -> Path:
    """Its parquet file, found as the package itself finds it; importing that would read every schema of it.

    :raises UsageError: if it has none.
    """
    packaged_version()
    for file in distribution(_PACKAGE).files or ():
        if str(file) == _PARQUET and (path := Path(str(file.locate())).resolve()).exists():
            return path
    raise UsageError(f"the installed {_PACKAGE} holds no index: reinstall it")
