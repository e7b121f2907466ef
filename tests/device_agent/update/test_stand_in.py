"""An accelerator may fail at any time: the CPU's variant of the same release comes with its own."""

import msgspec

from ota.bundle.manifest import parse_manifest
from ota.bundle.variants import files_for, stand_in
from ota.wire.enrolment import Accelerator

CORAL = Accelerator(kind="edgetpu-usb", present=True, usable=True)


def give(world, *accelerators):
    world.hands.facts_now = msgspec.structs.replace(world.hands.facts_now, accelerators=list(accelerators))


def test_a_board_with_an_accelerator_fetches_the_cpus_variant_too(world) -> None:
    """A Pi with a Coral takes release 2: both models are fetched, hashed, installed; the Edge TPU's runs, the other stands by."""
    give(world, CORAL)
    bundle = world.publish("2")
    world.assign(bundle)
    world.ticks(8)
    place = world.slots.slot(bundle.sha256)
    assert place is not None
    assert {"tpu.tflite", "model.tflite", "card.toml", "parity.json"} == set(place.files())
    running = world.performer.running()
    assert (running.release, running.variant, running.accelerator) == ("yard@2", "tpu", "edgetpu")
    assert running.fallback is not None
    assert (running.fallback.variant, running.fallback.model.read_bytes()) == ("cpu-int8", b"model.tflite of 2")


def test_a_board_without_one_fetches_what_it_runs_alone(world) -> None:
    """A plain Pi: not a byte of the Edge TPU's file, and nothing stands by."""
    bundle = world.publish("2")
    world.assign(bundle)
    world.ticks(8)
    assert "tpu.tflite" not in world.slots.slot(bundle.sha256).files()
    assert world.performer.running().fallback is None


def test_a_release_for_accelerators_alone_has_no_stand_in(world) -> None:
    """Nothing for the CPU was published: the files are those of the one variant, and the agent will say so when it fails."""
    manifest = parse_manifest(world.hands.documents[world.publish("3").path])
    give(world, CORAL)
    tpu, cpu = manifest.variants
    alone = msgspec.structs.replace(manifest, variants=[tpu])
    facts = world.hands.facts_now
    assert stand_in(alone, tpu, facts) is None
    assert files_for(alone, tpu, facts) == list(tpu.files)
    assert stand_in(manifest, tpu, facts) == cpu
    assert stand_in(manifest, cpu, facts) is None
    elsewhere = msgspec.structs.replace(cpu, machines=["riscv64"])
    assert stand_in(msgspec.structs.replace(manifest, variants=[tpu, elsewhere]), tpu, facts) is None


def test_a_place_from_before_that_holds_one_variant_runs_without_a_stand_in(world) -> None:
    """Installed by an agent that fetched one variant only: it runs as before, with nothing to fall back to."""
    give(world, CORAL)
    running = world.performer.running()
    assert (running.variant, running.fallback) == ("cpu-int8", None)
