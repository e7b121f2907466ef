"""What ``run --source`` says: one word per thing (visit, crossing, trigger), and nothing lost without a word. Pure."""

from collections.abc import Mapping

from device_agent.vision.run_summary import RunSummary
from device_agent.vision.types import EventUpdate
from models.card import UNUSED_LABELS, ModelCard


def said(update: EventUpdate) -> str:
    """The line for an event that starts or ends; empty where there is nothing to say."""
    event = update.event
    who = f"(track {event.track})"
    if update.kind == "start":
        if event.rule_kind == "line":
            return f"{event.start_s:8.1f} s  {event.label} crossed {event.rule}, {event.direction} {who}\n"
        if event.rule_kind == "trigger":
            return f"{event.start_s:8.1f} s  trigger {event.rule}: {event.label} {who}\n"
        stayed = "stayed in" if event.rule_kind == "dwell" else "in"
        return f"{event.start_s:8.1f} s  {event.label} {stayed} {event.rule} {who}\n"
    if update.kind != "end" or event.rule_kind in ("line", "trigger"):  # those are over when they are told
        return ""
    how = "was still in" if event.open else "left"
    stay_s = event.end_s - event.start_s
    return f"{event.end_s:8.1f} s  {event.label} {how} {event.rule} after {stay_s:.1f} s, best score {event.score:.2f} {who}\n"


def last_lines(summary: RunSummary) -> str:
    """What was seen; then, each on its own line, what was lost."""
    fps = summary.frames / summary.duration_s if summary.duration_s else 0.0
    seen = [f"visits: {_counted(summary.visits) or 'none'}"]
    if summary.crossings:
        rows = sorted(summary.crossings.items(), key=lambda row: (row[0][1], row[0][2], row[0][0]))
        seen.append("crossings: " + ", ".join(f"{count} {label} {line} {way}" for (label, line, way), count in rows))
    if summary.triggers:
        seen.append(f"triggers: {_counted(summary.triggers)}")
    text = (
        f"{summary.frames} frames in {summary.duration_s:.1f} s ({fps:.1f} a second), {summary.looked} looked at, "
        f"{summary.gated_frames} with motion; {'; '.join(seen)}; {summary.runtime} on {summary.accelerator}\n"
    )
    for whose, counts in (("lost by the pipeline", summary.dropped), ("lost by the source", summary.camera_dropped)):
        if any(counts.values()):
            text += f"{whose}: {_counted(counts)}\n"
    if summary.restarts:
        text += f"the detector was started again: {summary.restarts} times\n"
    return text


def short_card(card: ModelCard) -> str:
    """One line on an inferred card, and how to get all of it."""
    labels = sum(label not in UNUSED_LABELS for label in card.labels)
    return (
        f"the model's card was inferred: {card.input.width_px}x{card.input.height_px} px, decoder {card.output.decoder}, "
        f"{labels} labels, threshold {card.thresholds.score:g}; all of it: rookery-agent run --print-card --model FILE\n"
    )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()) if count)
