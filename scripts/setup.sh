#!/usr/bin/env bash
#
# Makes this tree ready, from nothing: system packages, then a virtual environment.
#
#   scripts/setup.sh runtime    what `idcfs mount` needs
#   scripts/setup.sh dev        the same, and what the demo, the tests, the checks and the benchmark need
#
# Does only what is missing, so it may run before every target. Exit code 2: something that only the user can do.
#
#   VENV     where the virtual environment stands (default: .venv)
#   PYTHON   the interpreter to build it from (default: the first of python3, python3.13 … python3.11 that will do)

set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin  # where Debian keeps Orthanc, and a user's own PATH does not lead

level=${1:-runtime}
case $level in
    runtime | dev) ;;
    *) echo "usage: scripts/setup.sh [runtime|dev]" >&2 && exit 2 ;;
esac
venv=${VENV:-.venv}
broken=$venv/.unfinished  # stands while pip works: found at the start, it tells of an interrupted run
log=$(mktemp)
policy=  # the policy-rc.d that we put in place, if any
trap 'cleanup' EXIT

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*" && exit 2; }
have() { command -v "$1" >/dev/null 2>&1; }

cleanup() {
    rm -f "$log"
    if [ -n "$policy" ]; then as_root rm -f "$policy"; fi
}

# Runs a command whose output is of interest only if it fails.
quietly() {
    if ! "$@" >"$log" 2>&1 </dev/null 9>&-; then
        tail -n 60 "$log" >&2
        return 1
    fi
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# --- the interpreter --------------------------------------------------------------------------------------------------

# A version manager's shim may exist and yet not run, so a candidate has to show that it works.
no_python='no Python 3.11 or newer found: please install one, or name it: PYTHON=/path/to/python3'
will_do() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 </dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if will_do "$candidate"; then
            # Not a virtual environment that happens to be active, but what stands behind it.
            "$candidate" -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))' && return
        fi
    done
    return 1
}

# --- what is there already --------------------------------------------------------------------------------------------

venv_works() { [ ! -e "$broken" ] && will_do "$venv/bin/python" && "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; }

# What an installation depends on; a stamp with the same words says that it is done.
recipe() {
    printf '%s\n' "$PWD"
    "$venv/bin/python" -c 'import sys; print(sys.version)'
    cat pyproject.toml scripts/setup.sh
}

installed() {
    local stamp
    for stamp in "$venv/.installed-dev" "$venv/.installed-$level"; do
        [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$(recipe | cksum)" ] && return
    done
    return 1
}

ready() { venv_works && installed; }

# --- system packages --------------------------------------------------------------------------------------------------

missing=()  # Debian's names

# need PACKAGE COMMAND...: PACKAGE is missing unless the command succeeds.
need() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 </dev/null || missing+=("$package")
}

compiles() { printf '#include <stdlib.h>\nint main(void) { return 0; }\n' | cc -x c -fsyntax-only -; }
has_fuse_headers() { have pkg-config && pkg-config --exists fuse3; }
has_orthanc_plugin() { compgen -G '/usr/share/orthanc/plugins/libOrthancDicomWeb.so*'; }
can_make_venvs() { "$1" -c 'import ensurepip, venv'; }
has_python_headers() { "$1" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'; }

list_missing() {
    missing=()
    local python version
    need fuse3 have fusermount3
    if ! ready; then
        # pyfuse3 comes as source and is compiled against the machine's libfuse.
        need gcc compiles
        need libc6-dev compiles
        need pkg-config have pkg-config
        need libfuse3-dev has_fuse_headers
        if ! python=$(find_python); then
            missing+=(python3 python3-venv python3-dev)
        elif [[ $python == /usr/bin/* || $python == /bin/* ]]; then
            version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
            need "python$version-venv" can_make_venvs "$python"
            need "python$version-dev" has_python_headers "$python"
        fi
    fi
    if [ "$level" = dev ]; then
        need orthanc have Orthanc
        need orthanc-dicomweb has_orthanc_plugin
        need nginx have nginx
        need dcmtk have dcmdump
        need libgdcm-tools have gdcminfo
        need dcm2niix have dcm2niix
        need curl have curl
        need attr have getfattr
        need rsync have rsync
        need file have file
        need zip have zip
        need xz-utils have xz
        need zstd have zstd
        need git have git
        need plastimatch have plastimatch
        need vtk-dicom-tools have dicomtonifti
        need rclone have rclone
        need davfs2 have mount.davfs
        need systemd have systemd-analyze
        need groff-base have groff
    fi
}

# Debian starts a service as soon as its package is installed, and again at every boot. idcfs wants the programs of
# Orthanc and nginx, which the tests start themselves, not their services: deny the first start for the time of the
# installation, and disable what remains. A policy that is there already is the administrator's and stays.
services=()  # those of the packages that are installed here; a service that was there before is not ours

list_services() {
    local package
    services=()
    for package in "${missing[@]}"; do
        case $package in orthanc | nginx) services+=("$package") ;; esac
    done
}

deny_start() {
    local path=/usr/sbin/policy-rc.d mark='# from the set-up of idcfs; may be removed'
    if [ -e "$path" ] && ! grep -qxF "$mark" "$path"; then return; fi
    policy=$path
    # shellcheck disable=SC2016  # $1 is the policy's own
    printf '%s\n' '#!/bin/sh' "$mark" 'case "$1" in orthanc*|nginx*) exit 101 ;; esac' 'exit 0' |
        as_root tee "$path" >/dev/null
    as_root chmod 755 "$path"
}

disable_service() {
    if [ -d /run/systemd/system ]; then
        as_root systemctl disable --now "$1.service"
    else
        as_root invoke-rc.d --quiet "$1" stop || true  # a policy may forbid even that
        as_root update-rc.d "$1" disable
    fi
}

apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"; }

install_missing() {
    local by_hand="please install what Debian calls ${missing[*]}, then run this again"
    have apt-get || die "no apt-get here: $by_hand"
    [ "$(id -u)" = 0 ] || have sudo || die "neither root nor sudo here: $by_hand"
    say "installing ${missing[*]}"
    local service
    list_services
    [ ${#services[@]} = 0 ] || deny_start
    quietly apt_get update || say "apt-get update failed; going on with the package lists that are here"
    quietly apt_get install --no-install-recommends "${missing[@]}" || die "apt-get failed: $by_hand"
    for service in "${services[@]}"; do
        quietly disable_service "$service" || say "the service $service could not be disabled"
    done
    hash -r
    list_missing
    find_python >/dev/null || die "$no_python"
    [ ${#missing[@]} = 0 ] || die "still missing after apt-get: ${missing[*]}"
}

# --- the virtual environment ------------------------------------------------------------------------------------------

make_venv() {
    local python
    python=$(find_python) || die "$no_python"
    can_make_venvs "$python" || die "$python lacks the modules venv and ensurepip: install them, or name another PYTHON"
    has_python_headers "$python" || die "$python lacks its C headers (Python.h): install them, or name another PYTHON"
    say "making $venv with $("$python" --version)"
    quietly "$python" -m venv --clear "$venv" || die "$python could not make $venv"
}

install_packages() {
    local what=.
    [ "$level" = runtime ] || what=".[$level]"
    say "installing idcfs and its Python packages ($level) into $venv"
    rm -f "$venv"/.installed-*
    : >"$broken"
    quietly "$venv/bin/python" -m pip install --disable-pip-version-check -e "$what" || die "pip could not install $what"
    rm -f "$broken"
    recipe | cksum >"$venv/.installed-$level"
}

# Two makes at once would tread on each other; the lock is on this file, so nothing is left behind.
if have flock; then exec 9<scripts/setup.sh && flock 9; fi

list_missing
[ ${#missing[@]} = 0 ] || install_missing
if ! ready; then
    venv_works || make_venv
    install_packages
fi
