"""What the benchmark ran on: the machine, and the programs that were compared. Never its name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

_VERSIONS = {
    "rclone": ("rclone", "version"),
    "davfs2": ("mount.davfs", "--version"),
    "nginx": ("nginx", "-v"),
    "Orthanc": ("Orthanc", "--version"),
    "curl": ("curl", "--version"),
    "dcm2niix": ("dcm2niix", "--version"),
}
_PACKAGES = ("pyfuse3", "trio", "httpx", "pydicom", "SimpleITK", "openslide-python")
_SYSTEM = "/usr/sbin:/sbin:/usr/local/sbin"
_NUMBER = re.compile(r"\bv?(\d+(?:\.\d+)+[\w.-]*)")


def described() -> dict[str, str]:
    """Cores, memory, kernel, and versions, by name."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    machine = {
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "memory": f"{pages / 2**30:.0f} GiB",
        "kernel": f"Linux {os.uname().release}",
        "Python": sys.version.split()[0],
        "idcfs": version("idcfs"),
    }
    machine |= {name: _version(command) for name, command in _VERSIONS.items()}
    return machine | {name: version(name) for name in _PACKAGES}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(command: tuple[str, str]) -> str:
    found = shutil.which(command[0]) or shutil.which(command[0], path=_SYSTEM)
    if found is None:
        return "not installed"
    done = subprocess.run([found, command[1]], capture_output=True, text=True, check=False)
    number = _NUMBER.search(done.stdout + done.stderr)
    return number[1] if number else "unknown"
