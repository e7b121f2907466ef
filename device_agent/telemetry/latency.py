"""Latency of pipeline stages over a window, in buckets that grow by a tenth: constant memory however many frames. Pure."""

import math

from ota.wire.heartbeat import StageLatency

LOWEST_MS, STEP = 0.01, 1.1
"""The first bucket ends here, each next one a tenth later: a percentile is right to within 10 %."""
BUCKETS = 160
"""The last bucket ends at about 42 s, longer than any deadline of the agent."""


class StageHistogram:
    """Counts of one stage; percentiles are upper ends of buckets."""

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self.count = 0

    def add(self, value_ms: float) -> None:
        """One measurement in milliseconds."""
        place = 0 if value_ms <= LOWEST_MS else min(BUCKETS - 1, math.ceil(math.log(value_ms / LOWEST_MS, STEP)))
        self._counts[place] += 1
        self.count += 1

    def percentile_ms(self, share: float) -> float:
        """The value below which ``share`` (0 to 1) of all measurements lie; 0 without any."""
        wanted = max(1, math.ceil(share * self.count))
        seen = 0
        for place, count in enumerate(self._counts):
            seen += count
            if seen >= wanted and self.count:
                return round(LOWEST_MS * STEP**place, 3)
        return 0.0

    def summary(self) -> StageLatency:
        """As the heartbeat tells it."""
        return StageLatency(p50_ms=self.percentile_ms(0.5), p95_ms=self.percentile_ms(0.95), count=self.count)
