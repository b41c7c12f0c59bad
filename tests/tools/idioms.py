"""All idioms, in the order of the table."""

from __future__ import annotations

from tests.tools import commands, dicom_commands, libraries, over_http, python

KINDS = {
    "Copying": commands.COPYING,
    "Archives and compression": commands.ARCHIVING,
    "Reading": commands.READING,
    "Sizes": commands.SIZES,
    "Over HTTP": over_http.HTTP,
    "DICOM commands": dicom_commands.DICOM,
    "Python": python.PYTHON,
    "Python's DICOM libraries": libraries.LIBRARIES,
}

IDIOMS = tuple(idiom for kind in KINDS.values() for idiom in kind)

NAMED = {idiom.name: idiom for idiom in IDIOMS}
