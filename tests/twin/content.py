"""The bytes of an instance as they are sent: those that are stored, or damaged on purpose."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import pydicom
from pydicom.uid import ImplicitVRLittleEndian

from tests.twin.knobs import Knobs
from tests.twin.model import IMPLICIT_LITTLE, Holdings, Instance, SeriesQuery, open_instance
from tests.twin.reply import Chunks, bytes_reply, instance_chunks, patched


@dataclass(frozen=True, slots=True)
class Content:
    """What is sent of an instance."""

    size: int
    """In bytes."""
    syntax: str
    """Transfer syntax."""
    span: Callable[[int, int], Chunks]
    """Given start and stop, a piece of it."""

    @property
    def chunks(self) -> Chunks:
        """All of it."""
        return self.span(0, self.size)


def content_of(holdings: Holdings, instance: Instance, knobs: Knobs) -> Content:
    """What ``knobs.corrupt`` makes of an instance."""
    if knobs.corrupt == "other_instance":
        instance = sibling(holdings, instance)
    if knobs.corrupt == "transcoded":
        return of_bytes(_implicit(instance), IMPLICIT_LITTLE)
    span = partial(instance_chunks, instance)
    if knobs.corrupt == "flip":
        span = partial(_flipped, instance, knobs.corrupt_offset)
    elif knobs.corrupt == "zero_preamble":
        span = partial(_without_preamble, instance)
    return Content(instance.size_bytes, instance.transfer_syntax, span)


def of_bytes(body: bytes, syntax: str) -> Content:
    """Content that is at hand."""
    return Content(len(body), syntax, lambda start, stop: bytes_reply(200, body[start:stop], "").chunks)


def _flipped(instance: Instance, offset: int, start: int, stop: int) -> Chunks:
    return patched(
        instance_chunks(instance, start, stop), offset - start, lambda data: bytes(255 - byte for byte in data)
    )


def _without_preamble(instance: Instance, start: int, stop: int) -> Chunks:
    return patched(instance_chunks(instance, start, stop), -start, lambda data: bytes(len(data)), 128)


@lru_cache(4)
def _implicit(instance: Instance) -> bytes:
    """The same dataset in a transfer syntax that needs no decoding, whatever the pixels are encoded in."""
    buffer = io.BytesIO()
    with open_instance(instance) as file:
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        pydicom.dcmwrite(buffer, dataset, little_endian=True, implicit_vr=True)
    return buffer.getvalue()


def sibling(holdings: Holdings, instance: Instance) -> Instance:
    """Another instance of the series; in a series of one, an instance of another series."""
    siblings = holdings.instances(instance.series)
    if len(siblings) > 1:
        return siblings[(instance.ordinal + 1) % len(siblings)]
    others = holdings.series(SeriesQuery())
    other = others[0] if others[0] != instance.series else others[-1]
    return holdings.instances(other)[0]
