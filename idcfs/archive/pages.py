"""When a list that comes in pages is taken for one without end."""

MAX_STALE_PAGES = 3
"""Pages in a row without anything new that are passed over: servers repeat items, and now and then a page, and one may
hold a folder's marker alone."""


def most_items(expected: int) -> int:
    """Most items of a list that is to have ``expected``: with room for repetitions and for growth."""
    return 4 * expected + 10_000
