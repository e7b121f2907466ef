"""What a slow or broken line teaches: how much may go at once, and which picture never arrives. Pure: time comes in."""

from collections import OrderedDict

CROP_TRIES = 3
CROP_TRIED_S = 300.0
"""A picture is given up when so many tries broke off, the first so long ago: a store that restarts costs none."""
REMEMBERED = 1000


class SlowLine:
    """One sender's. ``entries`` is how many go at once: halved where a batch broke off, doubled up to ``most`` where one went."""

    def __init__(self, most: int) -> None:
        self._most = self.entries = most
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._hopeless: OrderedDict[str, None] = OrderedDict()

    def batch_failed(self) -> None:
        """A batch broke off."""
        self.entries = max(1, self.entries // 2)

    def batch_went(self) -> None:
        """A batch was stored."""
        self.entries = min(self._most, self.entries * 2)

    def crop_failed(self, name: str, now_s: float) -> bool:
        """A picture's transfer broke off; True when its event must go without it."""
        tries, first_s = self._failed.pop(name, (0, now_s))
        if tries + 1 >= CROP_TRIES and now_s - first_s >= CROP_TRIED_S:
            self._hopeless[name] = None
            _bound(self._hopeless)
            return True
        self._failed[name] = (tries + 1, first_s)
        _bound(self._failed)
        return False

    def hopeless(self, name: str) -> bool:
        """Whether it was given up before: its event is told again where its batch failed."""
        return name in self._hopeless


def _bound(names: OrderedDict[str, tuple[int, float]] | OrderedDict[str, None]) -> None:
    while len(names) > REMEMBERED:
        names.popitem(last=False)
