"""Pure cores of the spool: what goes first, and when to try again."""

from hypothesis import given
from hypothesis import strategies as st

from device_agent.errors import ServerRefusedError, ServerUnavailableError
from device_agent.spool.entry import Crop, Header, TornEntryError, line_of, pack, unpack
from device_agent.spool.retention import Candidate, choose, over_budget_bytes, value
from device_agent.spool.retry import BackOff, after_error

CANDIDATES = st.lists(
    st.builds(
        Candidate,
        stream=st.just("events"),
        sequence=st.integers(1, 1000),
        size_bytes=st.integers(1, 10_000),
        priority=st.integers(0, 3),
        score=st.floats(0, 1),
        age_s=st.floats(0, 1e6),
    ),
    max_size=30,
    unique_by=lambda c: c.sequence,
)


@given(CANDIDATES, st.integers(0, 100_000))
def test_nothing_worthier_goes_before_something_less_worthy(entries: list[Candidate], need: int) -> None:
    chosen = choose(entries, need)
    kept = [entry for entry in entries if entry not in chosen]
    assert not chosen or not kept or max(map(value, chosen)) <= min(map(value, kept))
    if sum(entry.size_bytes for entry in entries) >= need:
        assert sum(entry.size_bytes for entry in chosen) >= need


@given(CANDIDATES, st.integers(1, 400_000))
def test_a_need_that_cannot_be_met_costs_nothing(entries: list[Candidate], need: int) -> None:
    assert choose(entries, need) == [] or sum(entry.size_bytes for entry in entries) >= need


@given(CANDIDATES, st.integers(1, 100_000))
def test_no_more_goes_than_is_needed(entries: list[Candidate], need: int) -> None:
    chosen = choose(entries, need)
    assert sum(entry.size_bytes for entry in chosen[:-1]) < need


@given(*(st.integers(0, 10**9) for _ in range(5)))
def test_room_is_enough_when_it_says_so(used: int, incoming: int, free: int, budget: int, reserve: int) -> None:
    over = over_budget_bytes(used, incoming, free, max_bytes=budget, min_free_bytes=reserve)
    assert over > 0 or (used + incoming <= budget and free - incoming >= reserve)


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=50))
def test_waits_stay_between_base_and_cap(draws: list[float]) -> None:
    state = BackOff(base_s=0.5, cap_s=60)
    for draw in draws:
        state = state.after_failure(draw)
        assert 0.5 <= state.wait_s <= 60
    assert state.after_success().wait_s == 0


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 3600))
def test_the_servers_wish_is_honoured_and_spread(draw: float, wish: float) -> None:
    state = after_error(BackOff(), ServerUnavailableError("busy", wish), draw)
    assert state.wait_s >= wish


def test_a_refusal_is_not_asked_again_soon() -> None:
    assert after_error(BackOff(), ServerRefusedError(403, "", "revoked"), 0.0).wait_s >= 30


@given(st.lists(st.binary(max_size=500), max_size=3), st.integers(0, 2000), st.data())
def test_any_damage_to_an_entry_is_noticed(blobs: list[bytes], flip: int, data: st.DataObject) -> None:
    crops = [Crop("first", "0" * 64, len(blob), 0.5, 1.0, (0, 0, 1, 1), blob) for blob in blobs]
    whole = pack(Header(stream="events", sequence=7, created_s=1.0, crops=[line_of(c) for c in crops]), blobs)
    header, found = unpack(whole)
    assert header.sequence == 7
    assert [c.jpeg for c in found] == blobs
    damaged = bytearray(whole)
    damaged[flip % len(whole)] ^= data.draw(st.integers(1, 255))
    for broken in (bytes(damaged), whole[: flip % len(whole)], whole + b"x"):
        try:
            unpack(broken)
        except TornEntryError:
            continue
        # Only the digits of the first line may be written in two ways ("7" and "07"): never other content.
        assert unpack(broken)[0] == header
