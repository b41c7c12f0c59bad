"""What is done to a filesystem and its archive, step by step, each beside the reference."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from idcfs.settings import BLOCK_BYTES, GIB, KIB, MIB
from tests.model.damage import DAMAGES, damage_blocks, damage_database
from tests.model.face import DirectoryPath, Face, Options, Piece
from tests.model.handles import MayFail, OpenDirectory, OpenFile
from tests.model.losses import HABITS, LOSSES, MATCHES
from tests.model.reference import File, Reference
from tests.model.stored import stored

T = TypeVar("T")

STEP_BYTES = 300_000
"""What is read at once of a whole file: no power of two, so that blocks are crossed."""
RECOVERIES = 4
"""So often a file of which the archive has had several versions may fail, once the archive is sound again."""

_SELDOM = 12
"""So many of the picks are of any file."""

picks = st.integers(0, 23)
"""Which of so many, whatever they are."""
offsets = st.sampled_from([0, 0, 1, 65_535, 65_536, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 9, -1, -100, 10**9])
"""Where to read; negative: so many bytes before the end."""
lengths = st.sampled_from([0, 1, 100, 4 * KIB, 128 * KIB, BLOCK_BYTES, BLOCK_BYTES + 2, 3 * MIB])
pieces = st.tuples(picks, offsets | st.integers(0, 6 * MIB), lengths)
options = st.builds(
    Options,
    policy=st.sampled_from(["wado", "auto", "auto", "bucket"]),
    memory_bytes=st.sampled_from([2 * MIB, 64 * MIB]),
    disk_bytes=st.sampled_from([0, 2 * MIB, 6 * MIB, GIB, GIB]),
    prefetch=st.sampled_from([0, 4]),
    habits=st.sampled_from(HABITS),
)


class Machine(RuleBasedStateMachine):
    """One filesystem; ``face`` makes it."""

    max_waiting = 700.0
    """Seconds."""
    hangs = True
    """Whether the archive may hang: the time that is waited for it has to cost nothing."""

    def make_face(self) -> Face:
        """A filesystem that has not been started."""
        raise NotImplementedError

    @initialize(options=options, favourite=picks)
    def mount(self, options: Options, favourite: int) -> None:
        """
        :param favourite: the file to which most happens: else hardly anything would happen to the same file twice.
        """
        self.options = options
        self.favourite = favourite
        self.reference = Reference(options.policy)
        self.files: list[OpenFile] = []
        self.directories: list[OpenDirectory] = []
        self.changes = 0
        self.face = self.make_face()
        self.face.start(options, self.reference)

    def teardown(self) -> None:
        if not hasattr(self, "face"):
            return
        try:
            self.repair()
            self.close_all()
            self.compare_everything()
        finally:
            self.face.stop()

    @invariant()
    def has_no_bug(self) -> None:
        if hasattr(self, "face"):
            assert not self.face.bugs()

    # --- names -------------------------------------------------------------------------------------------------------

    @rule(pick=picks, piece=st.integers(1, 5))
    def list_directory(self, pick: int, piece: int) -> None:
        paths = sorted(self.reference.directories().items())
        path, names = paths[pick % len(paths)]
        assert self.listed(path, piece) == names

    @rule(pick=picks, piece=st.integers(1, 5))
    def list_series(self, pick: int, piece: int) -> None:
        series = self.pick(self.reference.series, pick)
        with self.may_fail(self.reference.list_errors(series), f"listing {series.plan.uid}"):
            self.reference.note_list(series, self.listed(series.plan.path, piece))

    def listed(self, path: DirectoryPath, piece: int) -> list[str]:
        """All names of a directory, a few at a time."""
        handle = self.face.opendir(path)
        try:
            names, at = list[str](), 0
            while entries := self.face.entries(handle, at, piece):
                names += [name for name, _ in entries]
                at = entries[-1][1]
            return names
        finally:
            self.face.closedir(handle)

    @rule(pick=picks)
    def open_directory(self, pick: int) -> None:
        series = self.pick(self.reference.series, pick)
        with self.may_fail(self.reference.list_errors(series), f"opening {series.plan.uid}"):
            handle = self.face.opendir(series.plan.path)
            self.list_series(pick, 3)
            assert series.shown is not None, "a directory that can be opened can be listed"
            self.directories.append(OpenDirectory(handle, series.shown, [0]))

    @precondition(lambda self: self.directories)
    @rule(pick=picks, count=st.integers(1, 4))
    def list_some(self, pick: int, count: int) -> None:
        directory = self.pick(self.directories, pick)
        entries = self.face.entries(directory.number, directory.starts[directory.at], count)
        expected = directory.names[directory.at : directory.at + max(1, len(entries))]
        assert [name for name, _ in entries] == list(expected)
        del directory.starts[directory.at + 1 :]
        directory.starts += [start for _, start in entries]
        directory.at += len(entries)

    @precondition(lambda self: self.directories)
    @rule(pick=picks, back=picks)
    def rewind_directory(self, pick: int, back: int) -> None:
        directory = self.pick(self.directories, pick)
        directory.at = back % len(directory.starts)

    @precondition(lambda self: self.directories)
    @rule(pick=picks)
    def close_directory(self, pick: int) -> None:
        directory = self.pick(self.directories, pick)
        self.directories.remove(directory)
        self.face.closedir(directory.number)

    @rule(pick=picks, name=st.sampled_from(["nobody", ".dcm", "1.dcm", "x" * 255, "1.1.1.3", "é"]))
    def look_up_wrong_name(self, pick: int, name: str) -> None:
        series = self.pick(self.reference.series, pick)
        with self.may_fail(self.reference.list_errors(series), f"looking up {name}"):
            assert not self.face.exists((*series.plan.path, name))
            self.list_series(pick, 3)

    @rule(pick=picks)
    def look_up(self, pick: int) -> None:
        file = self.pick_file(pick)
        self.is_shown(file)

    def is_shown(self, file: File) -> bool:
        """Whether there is such a name; False too where its series cannot be listed."""
        series = file.series
        with self.may_fail(self.reference.list_errors(series), f"looking up {file.path}"):
            exists = self.face.exists(file.path)
            self.reference.note_list(series, self.listed(series.plan.path, 50))
            assert series.shown is not None
            assert exists == (file.name in series.shown), f"{file.path} in {series.shown}: {exists}"
            return exists
        return False

    # --- files -------------------------------------------------------------------------------------------------------

    @rule(pick=picks)
    def stat(self, pick: int) -> None:
        file = self.pick_file(pick)
        if self.is_shown(file):
            size = self.face.size(file.path)
            self.reference.note_size(file, size.bytes, is_exact=size.is_exact)

    @rule(pick=picks)
    def open_file(self, pick: int) -> None:
        file = self.pick_file(pick)
        if self.is_shown(file) and len(self.files) < 12:
            with self.may_fail(self.open_errors(file), f"opening {file.path}"):
                self.opened(file)

    def open_errors(self, file: File) -> Collection[int]:
        """With which errnos opening it may fail: with none, if its size is known."""
        return () if file.kept or self.face.size(file.path).is_exact else self.reference.content_errors(file)

    def read_errors(self, file: File) -> Collection[int]:
        return () if file.kept else self.reference.content_errors(file)

    def opened(self, file: File) -> OpenFile:
        number, size = self.face.open(file.path)
        one = OpenFile(file, number, size)
        self.files.append(one)
        self.reference.note_open(file, size)
        return one

    @precondition(lambda self: self.files)
    @rule(piece=pieces)
    def read(self, piece: tuple[int, int, int]) -> None:
        one = self.pick(self.files, piece[0])
        with self.may_fail(self.read_errors(one.file), f"reading {one.file.path}"):
            self.read_piece(one, one.piece(*piece[1:]))

    def read_piece(self, one: OpenFile, piece: Piece) -> None:
        data = self.face.read(piece)
        self.reference.note_read(one.file, one.size, piece.offset, piece.length, data)

    @precondition(lambda self: self.files)
    @rule(wanted=st.lists(pieces, min_size=2, max_size=5))
    def read_together(self, wanted: list[tuple[int, int, int]]) -> None:
        readers = [self.pick(self.files, pick) for pick, _, _ in wanted]
        asked = [one.piece(*piece[1:]) for one, piece in zip(readers, wanted, strict=True)]
        for one, piece, found in zip(readers, asked, self.face.read_together(asked), strict=True):
            if isinstance(found, OSError):
                self.reference.note_error(found, self.read_errors(one.file), f"reading {one.file.path}")
            else:
                self.reference.note_read(one.file, one.size, piece.offset, piece.length, found)

    @precondition(lambda self: self.files)
    @rule(pick=picks)
    def close_file(self, pick: int) -> None:
        self.close(self.pick(self.files, pick))

    def close(self, one: OpenFile) -> None:
        self.files.remove(one)
        self.face.close(one.number)
        self.reference.note_close(one.file)

    def close_all(self) -> None:
        for one in list(self.files):
            self.close(one)
        for directory in self.directories:
            self.face.closedir(directory.number)
        self.directories = []

    @rule(pick=picks)
    def read_whole(self, pick: int) -> None:
        file = self.pick_file(pick)
        if self.is_shown(file):
            self.is_read(file)

    @rule(pick=picks)
    def read_series(self, pick: int) -> None:
        """File by file, in the order of the names: others are fetched ahead."""
        series = self.pick(self.reference.series, pick)
        with self.may_fail(self.reference.list_errors(series), f"listing {series.plan.uid}"):
            self.reference.note_list(series, self.listed(series.plan.path, 50))
            for name in series.shown or ():
                self.is_read(series.files[name.removesuffix(".dcm")])

    def is_read(self, file: File) -> bool:
        """Read all of it in order; False if that has failed, as it may."""
        had_come_together = file.reading.readers == 0
        with self.may_fail(self.open_errors(file), f"opening {file.path}"):
            one = self.opened(file)
            try:
                with self.may_fail(self.read_errors(file), f"reading {file.path}"):
                    for offset in range(0, one.size + 1, STEP_BYTES):
                        self.read_piece(one, one.piece(offset, STEP_BYTES))
                    file.kept = self.options.is_roomy and had_come_together and not file.is_changed
                    return True
            finally:
                self.close(one)
        return False

    # --- what is kept ------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0, 0.02, 0.6, 1.2, 6.0, 70.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self.face.wait(min(seconds, self.max_waiting))

    @rule()
    def forget(self) -> None:
        self.face.forget()

    @rule()
    def sync(self) -> None:
        self.face.sync()

    @rule(
        at=st.integers(0, 1_100_000),
        how=st.sampled_from(["flip", "flip", "cut", "grow", "delete", "swap", "empty"]),
        all_of_them=st.booleans(),
    )
    def damage_blocks(self, at: int, how: str, all_of_them: bool) -> None:
        self.reference.forget_kept()
        self.face.sync()
        self.face.forget()  # else nobody would look at them
        damage_blocks(self.face.blocks, at, how, all_of_them=all_of_them)

    @rule(how=st.sampled_from(sorted(DAMAGES)))
    def damage_index(self, how: str) -> None:
        self.reference.forget_kept()
        damage_database(self.face.blocks / "index.sqlite", how)

    @rule(how=st.sampled_from(sorted(DAMAGES)))
    def damage_store(self, how: str) -> None:
        self.reference.forget_kept()
        self.reference.forget_lists()
        damage_database(self.face.store, how)

    @rule(is_empty=st.sampled_from([False, False, False, True]))
    def remount(self, is_empty: bool) -> None:
        self.close_all()
        self.face.remount(is_empty=is_empty)
        if is_empty:
            self.reference.begin_anew()
        else:
            self.reference.begin_mount()

    # --- the archive -------------------------------------------------------------------------------------------------

    @rule(pick=picks, more=st.sampled_from([0, 0, 1, -1, 64 * KIB, -64 * KIB, MIB + 1]))
    def replace(self, pick: int, more: int) -> None:
        """Another instance stands under the name of one, perhaps longer or shorter."""
        file = self.pick_file(pick)
        data = file.content()
        if data is not None:
            self.changes += 1
            self.put(file, stored(file.series.plan, file.uid, max(700, len(data) + more), self.changes))

    @rule(pick=picks)
    def remove(self, pick: int) -> None:
        self.put(self.pick_file(pick), None)

    @rule(pick=picks)
    def remove_series(self, pick: int) -> None:
        for file in self.pick(self.reference.series, pick).files.values():
            file.replace(None)
        self.face.change(self.reference)

    @rule(pick=picks)
    def add(self, pick: int) -> None:
        """What was removed, or never there."""
        absent = [file for file in self.reference.files if file.current is None]
        if absent:
            file = self.pick(absent, pick)
            self.put(file, file.versions[-1] if file.versions else stored(file.series.plan, file.uid, 50_000, 0))

    def put(self, file: File, data: bytes | None) -> None:
        file.replace(data)
        self.face.change(self.reference)

    @rule(name=st.sampled_from(sorted(LOSSES)), place=st.sampled_from(sorted(MATCHES)))
    def lose(self, name: str, place: str) -> None:
        loss = LOSSES[name if self.hangs or "hangs" not in name else "unavailable"]
        match = MATCHES["both" if self.options.habits else place]  # requests that do not match meet no habits
        for one in match.places:
            self.reference.trouble[one] = self.reference.trouble.get(one, frozenset()) | loss.errnos
        if loss.knobs is None:
            self.face.refuse(match.match)
        else:
            self.face.break_down(match.match, loss.knobs)

    @precondition(lambda self: self.reference.trouble)
    @rule()
    def repair(self) -> None:
        self.face.repair()
        self.reference.settle()

    @rule()
    def compare_all(self) -> None:
        """Everything, in whatever state it is."""
        for series in self.reference.series:
            with self.may_fail(self.reference.list_errors(series), f"listing {series.plan.uid}"):
                self.reference.note_list(series, self.listed(series.plan.path, 50))
                for name in series.shown or ():
                    self.is_read(series.files[name.removesuffix(".dcm")])

    def compare_everything(self) -> None:
        """With an archive that is sound: what it has can be read, if not at once."""
        for path, names in self.reference.directories().items():
            assert self.listed(path, 2) == names
        for series in self.reference.series:
            with self.may_fail(self.reference.list_errors(series), f"listing {series.plan.uid}"):
                self.reference.note_list(series, self.listed(series.plan.path, 50))
                for name in series.shown or ():
                    self.recover(series.files[name.removesuffix(".dcm")])

    def recover(self, file: File) -> None:
        must_be_read = self.reference.recovers(file)
        reads = (self.is_read(file) for _ in range(RECOVERIES))
        assert any(reads) or not must_be_read, f"{file.path} cannot be read any more"

    # --- inside ------------------------------------------------------------------------------------------------------

    def may_fail(self, allowed: Collection[int], what: str) -> MayFail:
        """What is done within may fail with these errnos."""
        return MayFail(self.reference, allowed, what)

    def pick_file(self, number: int) -> File:
        """Mostly one of two."""
        is_any = number < _SELDOM
        return self.pick(self.reference.files, number if is_any else self.favourite + number % 2)

    @staticmethod
    def pick(some: Sequence[T], number: int) -> T:
        return some[number % len(some)]
