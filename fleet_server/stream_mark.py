"""The cumulative mark of a numbered stream: up to where a device may forget."""

from collections.abc import Collection


def mark_after(mark: int, last: int, new: Collection[int]) -> int:
    """The mark after a batch that ended at ``last`` and brought the numbers ``new``, which were not stored before.

    A repeated or late batch does not lower it. But something new at or below the mark means that the board numbers anew (its disk
    was wiped): the mark then goes back to the end of this batch, for a higher one would let the board forget what it never sent.
    """
    begun_anew = any(number <= mark for number in new)
    return last if begun_anew else max(mark, last)
