"""How far a server may look: policy.toml's keys for pictures, hosts and live view; everything wrong with it told at once."""

from dataclasses import fields
from pathlib import Path

import pytest

from device_agent.update.policy import Policy, PolicyError, allows_host, load_policy, missing_policy, policy_faults

GOOD = """
channels = ["stable"]
live_view = true
blur = ["person", "face"]
blur_by = ["ssd_mobilenet_v1_coco"]
upload_classes = ["crop", "debug"]
upload_hosts = ["store.example:9000", "STORE2.example"]
server_hosts = ["fleet.example"]
local_output_hosts = ["192.168.1.5", "[fd00::5]:8883"]

[masks]
"*" = [[[0.0, 0.0], [1.0, 0.0], [1.0, 0.1]]]
yard = [[[0, 0.5], [0.2, 0.5], [0.2, 1], [0, 1]], [[0.9, 0.9], [1, 0.9], [1, 1]]]
"""


def test_every_key_stands_in_the_manual() -> None:
    """Somebody adds a key and forgets the page that the owner of a board reads."""
    manual = (Path(__file__).parents[3] / "docs" / "policy.md").read_text()
    keys = {field.name for field in fields(Policy)} - {"note"}
    assert [key for key in sorted(keys) if f"`{key}`" not in manual] == []
    example = manual.partition("```toml\n")[2].partition("```")[0]
    assert load_policy(example).masks["yard"]


def test_the_defaults_show_nothing_live_and_name_no_mask() -> None:
    """No file, or an empty one: no live view, and crops of events are all that leaves. Bursts and samples show whole frames, and
    a captured server switches them on with one configuration: they are for owners who ask for them."""
    for policy in (missing_policy(), load_policy("")):
        assert policy.live_view is False
        assert policy.masks == {}
        assert policy.blur == ()
        assert policy.upload_classes == ("crop",)
        assert policy.upload_hosts is None


def test_a_whole_policy_is_read() -> None:
    policy = load_policy(GOOD)
    assert policy.live_view
    assert policy.masks["*"] == (((0.0, 0.0), (1.0, 0.0), (1.0, 0.1)),)
    assert [len(mask) for mask in policy.masks["yard"]] == [4, 3]
    assert policy.blur == ("person", "face")
    assert policy.blur_by == ("ssd_mobilenet_v1_coco",)
    assert policy.upload_classes == ("crop", "debug")


def test_everything_wrong_is_told_at_once_with_its_place() -> None:
    """A policy that is half understood would protect half: it is refused as a whole, with a sentence for each fault."""
    wrong = """
live_veiw = true
live_view = "yes"
blur = "person"
upload_classes = ["crop", "film"]
upload_hosts = ["https://store.example/path"]
server_hosts = ["fleet.example:99999"]
local_output_hosts = [5]
blur_model = "faces.tflite"
[masks]
yard = [[[0, 0], [1, 1], [1, 0], [0, 1]], [[0, 0], [100, 0], [100, 50]]]
"a/b" = []
shed = 5
"""
    with pytest.raises(PolicyError) as caught:
        load_policy(wrong)
    text = str(caught.value)
    for piece in (
        "unknown key 'live_veiw'", "live_view must be true or false", "blur must be", "upload_classes must be",
        "upload_hosts must be", "server_hosts must be", "local_output_hosts must be", "masks.yard[1] crosses", "masks.yard[2]",
        "blur_model must be a whole path", "'a/b' is not the name of a camera", "masks.shed must be a list",
    ):  # fmt: skip
        assert piece in text, piece


def test_a_model_for_blurring_comes_with_its_card() -> None:
    with pytest.raises(PolicyError, match="together"):
        load_policy('blur_model = "/opt/faces.tflite"')
    policy = load_policy('blur_model = "/opt/faces.tflite"\nblur_card = "/opt/faces.toml"')
    assert (policy.blur_model, policy.blur_card) == ("/opt/faces.tflite", "/opt/faces.toml")


def test_a_mask_for_a_camera_that_does_not_exist_is_a_fault() -> None:
    """The owner wrote "yrad": the yard would stay without its mask and nobody would know."""
    policy = load_policy('[masks]\nyrad = [[[0, 0], [1, 0], [1, 1]]]\n"*" = []')
    (fault,) = policy_faults(policy, ["yard", "shed"], "https://fleet.example:8443")
    assert "'yrad'" in fault
    assert "shed, yard" in fault


def test_server_and_local_output_must_be_where_the_policy_says() -> None:
    """Somebody changed agent.toml and leads the board to another server: the policy, which root alone writes, says no."""
    policy = load_policy(GOOD.replace("yard =", "shed ="))
    assert policy_faults(policy, ["shed"], "https://fleet.example:8443", ["192.168.1.5:1883", "fd00::5:8883"]) == []
    faults = policy_faults(policy, ["shed"], "https://evil.example:8443", ["10.0.0.1:1883", "fd00::5:1883"])
    assert len(faults) == 3
    assert "fleet.example only" in faults[0]
    assert "10.0.0.1:1883" in faults[1]


@pytest.mark.parametrize(
    ("hosts", "host", "port", "allowed"),
    [
        (None, "anywhere", 443, True), ((), "anywhere", 443, False), (("a.example",), "A.Example.", 1, True),
        (("a.example:443",), "a.example", 444, False), (("a.example:443",), "a.example", 443, True),
        (("example",), "a.example", 443, False), (("a.example",), "a.example.evil", 443, False),
        (("[fd00::5]",), "fd00::5", 443, True), (("[fd00::5]:443",), "fd00::5", 80, False),
    ],
)  # fmt: skip
def test_hosts_are_compared_whole(hosts, host: str, port: int, allowed: bool) -> None:
    assert allows_host(hosts, host, port) is allowed
