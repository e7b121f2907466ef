"""Recall samples from the command line: out of every list, there when they are asked for."""

import hashlib
import json

from fleet_server.detections import service
from ota.wire.events import CropRef, Event, EventBatch
from tests.fakes.operator_site import OperatorSite
from tests.fakes.seeded_fleet import seed_fleet


def test_samples_are_listed_only_when_asked_for(rookery, signed_in: OperatorSite) -> None:
    """Whoever estimates recall lists the samples with their weights; whoever looks what happened does not see them."""
    here = signed_in.context
    fleet = seed_fleet(here)
    device, digest = fleet.devices["attic"], hashlib.sha256(b"x").hexdigest()
    crop = CropRef(
        kind="first", key=f"{device}/crop/s1/{digest}", sha256=digest, length_bytes=1, score=0, at_s=1.0, box=(0, 0, 9, 9)
    )
    sample = Event(
        sequence=900, id="s1", camera="cam0", track=0, label="none", rule="recall", rule_kind="sample", started_at_s=here.clock(),
        start_frame=1, end_frame=1, score=0.0, threshold=0.3, box=(0, 0, 9, 9), frame_width_px=9, frame_height_px=9,
        bundle_sha256="a" * 64, release="yard@1", crops=[crop], weight=77.0,
    )  # fmt: skip
    with here.database.write() as session:
        service.store_events(session, device, EventBatch(boot_id="b", events=[sample]), now_s=here.clock())
    all_ids = [one["id"] for one in json.loads(rookery("-o", "json", "detection", "list", "--limit", "1000").out)["items"]]
    assert all_ids
    assert "s1" not in all_ids
    found = json.loads(rookery("-o", "json", "detection", "list", "--kind", "sample").out)["items"]
    assert [(one["id"], one["weight"]) for one in found] == [("s1", 77.0)]
    assert rookery("detection", "list", "--kind", "samples").code == 2
