"""What nobody foresaw: an action that breaks in the agent's own code, a key that was stolen and has signed the last number."""

from ota.trust.keys_disk import generate_key, load_signer
from ota.trust.refusal import Refusal

LAST = 2**53 - 1


def test_an_action_that_breaks_every_time_ends_the_deployment(world) -> None:
    """Staging raises what no code expects (a wheel nobody thought of): tried twice, then refused in words, and never again."""
    calls = []

    def broken(*_: object):
        calls.append(1)
        raise IndexError("nobody thought of it")

    world.performer._by_name = {**world.performer._by_name, "stage": broken}
    world.assign(world.publish("2"))
    world.ticks(200, seconds=30.0)
    assert world.states()[-1] == "refused"
    assert world.hands.reports[-1].reason == "fault"
    assert "nobody foresaw" in world.hands.reports[-1].detail
    assert len(calls) == 2
    assert world.runs() == "yard@1"


def test_a_stolen_assignment_key_deafens_only_until_another_is_named(world) -> None:
    """A thief signs the highest number there is; while his key is named no lower one counts, with a new key counting is anew."""
    world.assign(world.publish("2"), seq=LAST)
    assert world.updater.seen.seq == LAST
    assert isinstance(world.assign(world.publish("3"), seq=5), Refusal)
    generate_key(world.folder / "next.pem", None)
    world.signer = load_signer(world.folder / "next.pem", None)
    old = dict(world.keys)
    world.keys[world.signer.public_key.keyid] = world.signer.public_key
    refused = world.assign(world.publish("3"), seq=5)
    assert isinstance(refused, Refusal), "while both are named the number binds: nothing old can be sent again"
    assert refused.code == "sequence"
    for keyid in old:
        del world.keys[keyid]
    world.restart()
    assert not isinstance(world.assign(world.publish("3"), seq=5), Refusal)
    assert world.updater.seen.seq == 5
    assert isinstance(world.assign(world.publish("4"), seq=4), Refusal), "below what the new key has signed"
