"""A machine with nothing on it, on which the README's commands are tried: ``make fresh-machine``."""
