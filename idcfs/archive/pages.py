"""When a list that comes in pages is taken for one without end."""

MAX_ITEMS = 2**22
"""Most items of any list: four times the series of IDC v25, which has 91,980 instances in its largest one. As records
they take 2 GB."""

MAX_STALE_PAGES = 3
"""Pages in a row without anything new that are passed over: servers repeat items, and now and then a page, and one may
hold a folder's marker alone."""


def most_items(expected: int) -> int:
    """Most items of a list that is to have ``expected``: with room for repetitions and for growth.

    Whoever says what is to be expected may be who sends the list.
    """
    return min(4 * expected + 10_000, MAX_ITEMS)
