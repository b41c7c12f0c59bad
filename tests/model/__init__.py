"""Everything that is read, through the house and through a mount, beside a plain dict: docs/TESTING.md."""
