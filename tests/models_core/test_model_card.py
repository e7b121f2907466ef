"""A card is written by strangers, by hand: every mistake must be named, all at once, and what is read must be what was meant."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.card import AnchorSpec, CardError, InputSpec, ModelCard, OutputSpec, Thresholds, dump_card, load_card, parse_labels
from models.catalog import CatalogError, parse_catalog

WHOLE = """
name = "yard"
task = "detect"
labels = ["person", "cart"]
licence = "Apache-2.0"
[input]
width_px = 160
height_px = 96
[output]
decoder = "points"
strides = [8, 16]
"""

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\n"), min_size=1, max_size=30).filter(str.strip)
labels = st.lists(texts.filter(lambda t: t not in ("n/a", "???")), min_size=1, max_size=6, unique=True).map(tuple)
numbers = st.floats(-1e6, 1e6)
fractions = st.floats(0, 1)
positive = st.floats(1e-3, 1000)
anchors = st.builds(
    AnchorSpec,
    st.sampled_from(["ssd", "multiscale"]), st.lists(positive, min_size=1, max_size=6).map(tuple),
    st.floats(0, 0.5), st.floats(0.5, 1), st.floats(0, 1000), st.booleans(), positive, st.integers(1, 16),
)  # fmt: skip
names = st.one_of(st.none(), texts, st.lists(texts, min_size=1, max_size=3).map(tuple))


@st.composite
def cards(draw: st.DrawFn) -> ModelCard:
    kinds = ["points", "ssd_postprocess", "ssd_anchors", "yolox", "yolov5", "yolov8", "classifier"]
    decoder = draw(st.sampled_from(kinds))
    found = draw(labels)
    activations = {"classifier": ["none", "sigmoid", "softmax"], "ssd_postprocess": ["none"]}.get(decoder, ["none", "sigmoid"])
    return ModelCard(
        name=draw(texts),
        task="classify" if decoder == "classifier" else "detect",
        input=InputSpec(
            draw(st.integers(1, 4096)),
            draw(st.integers(1, 4096)),
            draw(st.sampled_from(["nhwc", "nchw"])),
            draw(st.sampled_from(["rgb", "bgr"])),
            draw(st.sampled_from(["letterbox", "letterbox_centre", "stretch"])),
            draw(st.integers(0, 255)),
            draw(st.one_of(numbers, st.tuples(numbers, numbers, numbers))),
            draw(st.one_of(st.floats(1e-3, 1e6), st.tuples(*[st.floats(1e-3, 1e6)] * 3))),
            draw(st.sampled_from([None, True, False])),
        ),
        output=OutputSpec(
            decoder,
            draw(st.lists(st.integers(1, 1024), min_size=1, max_size=4).map(tuple)),
            draw(names),
            draw(names),
            draw(st.one_of(st.none(), texts)),
            draw(st.one_of(st.none(), texts)),
            draw(st.sampled_from(activations)),
            draw(st.sampled_from(["normalised", "pixels"])),
            draw(st.sampled_from([0, 16])) if decoder == "points" else 0,
            draw(st.tuples(*[positive] * 4)),
            draw(st.booleans()),
            draw(anchors) if decoder == "ssd_anchors" else None,
        ),
        labels=found,
        thresholds=Thresholds(
            draw(fractions),
            draw(st.dictionaries(st.sampled_from(found), fractions)),
            draw(fractions),
            draw(st.integers(1, 10_000)),
        ),
        licence=draw(texts),
        source=draw(st.one_of(st.just(""), texts)),
    )


@given(cards())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_card_written_out_reads_back_as_itself(card: ModelCard) -> None:
    assert load_card(dump_card(card)) == card


def test_the_smallest_card_gets_the_documented_defaults() -> None:
    card = load_card(WHOLE)
    assert card.input == InputSpec(160, 96, "nhwc", "rgb", "stretch", 114, 0.0, 1.0)
    assert card.thresholds == Thresholds(0.5, {}, 0.5, 100)
    assert card.input.raw


def test_all_faults_are_named_at_once() -> None:
    """Someone writes a card with nine mistakes; he must not need nine tries."""
    text = """
    name = 7
    task = "segment"
    labels = ["a", 3]
    colour = "rgb"
    [input]
    width_px = true
    height_px = 99999
    std = 0
    mean = [1, 2]
    [output]
    decoder = "points"
    strides = "8"
    [thresholds]
    score = 1.5
    [thresholds.per_class]
    a = -1
    """
    with pytest.raises(CardError) as caught:
        load_card(text)
    said = "\n".join(caught.value.faults)
    wanted = ("name", "task", "labels", "input.width_px", "input.height_px", "input.std", "input.mean", "output.strides")
    for key in (*wanted, "thresholds.score", "thresholds.per_class.a", "licence is missing", "colour is not known"):
        assert key in said
    assert len(caught.value.faults) == 12


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"points"', '"classifier"', "does not go with"),
        ("strides = [8, 16]", "", "strides must be given"),
        ('["person", "cart"]', '["person", "person"]', "more than once: person"),
        ('["person", "cart"]', '["n/a", "???"]', "at least one used name"),
        ("strides = [8, 16]", "strides = [8]\n[thresholds.per_class]\ndog = 0.5", "labels does not hold: dog"),
        ("strides = [8, 16]", 'strides = [8]\nscore_activation = "softmax"', "softmax"),
        ("[input]", "[input", "not TOML"),
        ("[output]", "[outputs]", "output is missing"),
    ],
)
def test_fields_that_contradict_each_other(old: str, new: str, said: str) -> None:
    with pytest.raises(CardError, match=said):
        load_card(WHOLE.replace(old, new))


@given(st.text(max_size=200))
@settings(deadline=None)
def test_any_text_is_a_card_or_a_card_error(text: str) -> None:
    with pytest.raises(CardError):
        load_card(text)


def test_a_card_nested_without_end_is_refused() -> None:
    with pytest.raises(CardError):
        load_card("a = " + "[" * 100_000)


def test_label_files_keep_their_gaps() -> None:
    assert parse_labels("\ufeffperson\r\n\r\n n/a \ncar\n\n") == ("person", "n/a", "n/a", "car")


def test_the_catalogue_is_whole(cards: Path) -> None:
    """Every catalogue entry has a card that loads, and says under which licence and from where."""
    entries = parse_catalog((cards.parent / "catalog.toml").read_text())
    assert len(entries) >= 4
    for entry in entries:
        card = load_card((cards.parent / entry.card).read_text())
        assert card.licence == entry.licence
        assert entry.url.startswith("https://")


def test_cards_and_label_files_agree(cards: Path) -> None:
    coco90 = parse_labels((cards.parent / "labels" / "coco90.txt").read_text())
    coco80 = parse_labels((cards.parent / "labels" / "coco80.txt").read_text())
    assert load_card((cards / "ssd_mobilenet_v1_coco.toml").read_text()).labels == coco90
    assert load_card((cards / "yolox_nano_coco.toml").read_text()).labels == coco80
    assert len(coco90) == 90
    assert len(coco80) == 80
    assert tuple(label for label in coco90 if label != "n/a") == coco80


def test_a_catalogue_with_a_wrong_checksum_form_is_refused() -> None:
    text = '[[model]]\nname="a"\nfile="a.tflite"\nurl="http://x"\nsha256="abc"\nbytes=0\nlicence="MIT"\ncard="../a"\n'
    with pytest.raises(CatalogError) as caught:
        parse_catalog(text)
    assert len(caught.value.faults) == 4


def test_cards_are_values() -> None:
    card = load_card(WHOLE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        card.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ('decoder = "ssd_anchors"\nstrides = [16]', "[output.anchors] goes with decoder 'ssd_anchors'"),
        ('decoder = "yolov8"\n[output.anchors]', "[output.anchors] goes with decoder 'ssd_anchors'"),
        ('decoder = "ssd_anchors"\n[output.anchors]', "output.strides must be given"),
        ('decoder = "ssd_anchors"\nstrides = [16]\n[output.anchors]\nratio = 2', "output.anchors.ratio is not known"),
        ('decoder = "ssd_anchors"\nstrides = [16]\n[output.anchors]\nmin_scale = 0.9\nmax_scale = 0.1', "above max_scale"),
        ('decoder = "ssd_anchors"\nstrides = [16]\n[output.anchors]\naspect_ratios = [-2]', "anchors.aspect_ratios must be"),
        ('decoder = "ssd_anchors"\nstrides = [16]\n[output.anchors]\nanchor_scale = 1e9', "output.anchors.anchor_scale must be"),
        ('decoder = "yolov8"\nbox_units = "shares"', "output.box_units must be one of normalised, pixels"),
        ('decoder = "yolov8"\ndistance_bins = 16', "output.distance_bins goes with decoder 'points'"),
        ('decoder = "yolov8"\nscore_activation = "softmax"', "is for classifiers"),
        ('decoder = "points"\nstrides = [8]\ndistance_bins = 1', "0 (plain distances) or 2 and more"),
        ('decoder = "yolov5"\nbox_scales = [10, 10, 5]', "output.box_scales must be a list of 4 numbers"),
        ('decoder = "yolov5"\nbackground = 1', "output.background must be true or false"),
    ],
)
def test_faults_of_the_newer_heads_are_named(output: str, words: str) -> None:
    head, _, _ = WHOLE.partition("[output]")
    with pytest.raises(CardError) as caught:
        load_card(f"{head}[output]\n{output}\n")
    assert words in str(caught.value)


def test_a_card_that_needs_no_new_field_is_read_by_agents_that_know_none() -> None:
    """An agent of the version before refuses unknown keys: what a card does not need must not stand in it."""
    written = dump_card(load_card(WHOLE))
    for word in ("antialias", "box_units", "distance_bins", "box_scales", "background", "anchors"):
        assert word not in written
