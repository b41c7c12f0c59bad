"""A loopback twin of the IDC: QIDO-RS, WADO-RS and the public buckets, answered by one process of its own.

Start it with ``python -m tests.twin`` or, from tests, with :class:`tests.twin.client.Twin`. What it serves comes from a
directory of DICOM files, from an idc-index parquet (with synthetic contents of the true sizes), or from both. Every
habit of a real archive that the client has to survive is a knob: see :class:`tests.twin.knobs.Knobs`.
"""
