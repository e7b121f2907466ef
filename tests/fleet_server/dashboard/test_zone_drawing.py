"""Zones as a page draws them: where a person put them, with the names that events will bear."""

from fleet_server.dashboard.drawing import HEIGHT, WIDTH, drawn


def test_each_camera_is_drawn_with_what_holds_for_it() -> None:
    corner = [[0, 0], [0.5, 0], [0.5, 1]]
    found = drawn({
        "every_camera": {"zones": [{"name": "all", "polygon": corner}]},
        "cameras": {"gate": {"lines": [{"name": "sill", "points": [[0, 1], [1, 1]]}]}, "yard": {"zones": []}},
    })  # fmt: skip
    assert {camera: [(shape.kind, shape.name) for shape in shapes] for camera, shapes in found.items()} == {
        "every camera": [("zones", "all")], "gate": [("zones", "all"), ("lines", "sill")],
    }  # fmt: skip
    assert found["gate"][0].points == f"0,0 {WIDTH / 2:g},0 {WIDTH / 2:g},{HEIGHT}"
    assert all(0 <= shape.x <= WIDTH and 0 < shape.y < HEIGHT for shapes in found.values() for shape in shapes)
    assert drawn({}) == {}
