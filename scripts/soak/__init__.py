"""The soak: readers in many processes over a real mount, for hours if wanted, while its archive fails and comes back.

    python -m scripts.soak [--minutes M] [--processes N] [--seed N] [--results FILE] [--write DIRECTORY]

Every byte is compared with what the archive holds, every error with what the fault of that moment permits, and once
everybody rests, the mounts have to have let go of everything. ``truth`` says what there is; ``reading``, ``idioms`` and
``watching`` are the processes that read; ``schedule``, ``stage`` and ``crowd`` make the weather; ``judging`` and
``report`` say what came out.
"""
