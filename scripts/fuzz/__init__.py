"""The fuzzer that is guided by coverage, over the targets of ``tests/fuzz``: ``python -m scripts.fuzz``."""
