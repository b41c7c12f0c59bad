"""The commands that every Debian has, and some that it packages."""

from __future__ import annotations

from tests.tools.idiom import Idiom, Outcome, shell

_COPIES = "the copies"
_UNPACKED = "what is unpacked"
PRINTED = "what it prints"
SUMS = "the sums"


def one_by_one(command: str) -> str:
    """The command for each file, which it knows as ``$f``."""
    return f"for f in *; do {command}; done"


COPYING = (
    Idiom("cp -r", _COPIES, shell('cp -r . "$to"')),
    Idiom(
        "cp -a",
        "the copies, and their times with the originals'",
        shell('cp -a . "$to"; ' + one_by_one('[ ! "$f" -nt "$to/$f" ]; [ ! "$f" -ot "$to/$f" ]')),
    ),
    Idiom("cp --sparse=always", _COPIES, shell('cp --sparse=always * "$to"')),
    Idiom("install -m 600", _COPIES, shell('install -m 600 * "$to"')),
    Idiom("dd bs=64k", _COPIES, shell(one_by_one('dd if="$f" of="$to/$f" bs=64k status=none'))),
    Idiom("dd iflag=direct", _COPIES, shell(one_by_one('dd if="$f" of="$to/$f" bs=64k iflag=direct status=none'))),
    Idiom("dd skip=20 count=5", _COPIES, shell(one_by_one('dd if="$f" of="$to/$f" skip=20 count=5 status=none'))),
    Idiom("rsync -aX", _COPIES, shell('rsync -aX . "$to"')),
    Idiom("rsync -c --inplace", _COPIES, shell('rsync -rc --inplace . "$to"')),
    Idiom(
        "rsync -a, and once more", "that nothing is left to be copied", shell('rsync -a . "$to"; rsync -ain . "$to"')
    ),
    Idiom("cat", "all files as one", shell('cat * >"$to/all"')),
    Idiom("head -c 100M", _COPIES, shell(one_by_one('head -c 100M "$f" >"$to/$f"'))),
    Idiom("split -n 3", "the pieces", shell(one_by_one('split -n 3 "$f" "$to/$f."'))),
    Idiom("curl file://", _COPIES, shell(one_by_one('curl -sS -o "$to/$f" "file://$PWD/$f"'))),
    # It finds each file of another size than it was listed with, and is right when it tries once more.
    Idiom("rclone copy", _COPIES, shell('rclone copy -q . "$to" 2>/dev/null')),
    Idiom("mv", "—", shell('mv * "$to"'), provisional=Outcome.REFUSED, exact=Outcome.REFUSED),
)

ARCHIVING = (
    Idiom("tar -c", _UNPACKED, shell('tar -cf - . | tar -xf - -C "$to"')),
    Idiom("tar -cS --xattrs", _UNPACKED, shell('tar --xattrs -cSf "$to/t" .; tar -xf "$to/t" -C "$to"; rm "$to/t"')),
    Idiom("gzip -c", "the compressed files", shell(one_by_one('gzip -nc "$f" >"$to/$f"'))),
    Idiom("xz -c", "the compressed files", shell(one_by_one('xz -0c "$f" >"$to/$f"'))),
    Idiom("zstd -c", "the compressed files", shell(one_by_one('zstd -qc "$f" >"$to/$f"'))),
    # It warns of sizes that change, and has taken all.
    Idiom(
        "zip -r",
        _UNPACKED,
        shell('zip -qr "$to/z.zip" . >/dev/null; cd "$to"; $python -m zipfile -e z.zip .; rm z.zip'),
    ),
    Idiom("gzip -k", "—", shell("gzip -k *"), provisional=Outcome.REFUSED, exact=Outcome.REFUSED),
)

READING = (
    Idiom("wc", PRINTED, shell("wc *")),
    Idiom("wc -c", PRINTED, shell(f"wc -c *; {one_by_one('wc -c <$f')}")),
    Idiom("md5sum", SUMS, shell("md5sum *")),
    Idiom(
        "sha256sum -c",
        "with the sums of a copy",
        shell('(cd "$copy"; sha256sum *) >"$to/sums"; sha256sum -c "$to/sums"'),
    ),
    Idiom("find, xargs -P 4", SUMS, shell("find . -type f -print0 | xargs -0 -n 1 -P 4 sha1sum", in_order=False)),
    Idiom("tail -c 1000", SUMS, shell(one_by_one('tail -c 1000 "$f" | md5sum'))),
    Idiom("tail -c +100", SUMS, shell(one_by_one('tail -c +100 "$f" | md5sum'))),
    Idiom("head -c -5", SUMS, shell(one_by_one('head -c -5 "$f" | md5sum'))),
    Idiom("tac", SUMS, shell(one_by_one('tac "$f" | md5sum'))),
    Idiom("sort", SUMS, shell(one_by_one('sort "$f" | md5sum'))),
    Idiom("od -j 30000", PRINTED, shell(one_by_one('od -j 30000 -N 100 "$f"'))),
    Idiom("cmp", "with a copy", shell(one_by_one('cmp "$f" "$copy/$f"'))),
    Idiom("grep -r", PRINTED, shell("grep -rc TWIN-CT .; grep -rlF 1.2.840.10008.1.2.1 .", in_order=False)),
    Idiom("sed -n", SUMS, shell(one_by_one('sed -n "\\$p" "$f" | md5sum'))),
    Idiom("awk", PRINTED, shell(one_by_one('awk "{n += length} END {print n}" "$f"'))),
    Idiom("perl -0777", PRINTED, shell("perl -0777 -ne 'print length, qq(\\n)' *")),
    Idiom("file", PRINTED, shell("file *")),
    Idiom("flock", SUMS, shell(one_by_one('flock -n "$f" md5sum "$f"; flock -s -n "$f" true'))),
    Idiom("git hash-object", SUMS, shell("git hash-object *")),
    Idiom("sed -i", "—", shell("sed -i s/a/b/ *"), provisional=Outcome.REFUSED, exact=Outcome.REFUSED),
)

SIZES = (
    Idiom("test -s", "that each has a size", shell(one_by_one('test -s "$f"; test -r "$f"'))),
    Idiom("ls -l", PRINTED, shell("ls -l | awk '{print $5, $9}'"), provisional=Outcome.TOLD),
    Idiom("stat", PRINTED, shell("stat -c '%n %s' *"), provisional=Outcome.TOLD),
    Idiom("find -size", PRINTED, shell("find . -type f -size +100k", in_order=False), provisional=Outcome.TOLD),
    Idiom("du --apparent-size", PRINTED, shell("du --apparent-size -B 1 *"), provisional=Outcome.TOLD),
    Idiom("truncate -r", "the sizes", shell(one_by_one('truncate -r "$f" "$to/$f"')), provisional=Outcome.TOLD),
    Idiom(
        "rsync --max-size=100k",
        "which are copied",
        shell('rsync -r --max-size=100k . "$to/in"; ls "$to/in"; rm -r "$to/in"'),
        provisional=Outcome.TOLD,
    ),
    Idiom(
        "rsync -n --size-only",
        "which differ from a copy",
        shell('rsync -rni --size-only . "$copy"'),
        provisional=Outcome.TOLD,
    ),
    Idiom("diff -r", "with a copy", shell('diff -r . "$copy"'), provisional=Outcome.FAILS),
    Idiom("rclone check", "with a copy", shell('rclone check -q . "$copy"'), provisional=Outcome.FAILS),
    Idiom(
        "git add",
        SUMS,
        shell('g="git --git-dir=$to/git --work-tree=."; $g init -q; $g add .; $g ls-files -s; rm -r "$to/git"'),
        provisional=Outcome.FAILS,
    ),
    Idiom(
        "perl: read, as many as -s says",
        SUMS,
        shell(
            "perl -MDigest::MD5=md5_hex -e"
            " 'for (@ARGV) { my $size = -s; open F, q(<), $_; read F, my $all, $size; print md5_hex($all), qq(\\n) }' *"
        ),
        provisional=Outcome.CUT,
    ),
)
