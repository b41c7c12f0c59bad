"""``python -m idcfs``, and the program ``idcfs``."""

from __future__ import annotations

import signal


def main() -> None:
    """The program; Ctrl-C ends it without a word while its modules are still being loaded, which takes a moment."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import main as run

    signal.signal(signal.SIGINT, before)
    run()


if __name__ == "__main__":
    main()
