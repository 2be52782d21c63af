"""Why a person or a stay has its id: every decision about it with all candidates, what would have changed it, and the
corrections that followed. Read from decisions.jsonl and corrections.jsonl of a run or replay folder; of a dual backbone
also which branch spoke, from the run's sightings.

    ExplainError (ValueError)   there is no such person or stay here; names the nearest
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.counterfactual import Counterfactual, chosen_of, counterfactual, weights_at
from pipeline.journal import read_corrections, read_decisions, read_journal_sightings
from pipeline.sightings_file import read_branch_weights
from st_model.ledger import Correction, StayKey, aliases, final_ids, standing
from st_model.sightings import Decision


class ExplainError(ValueError):
    """What was asked for is not in this folder."""


@dataclass(frozen=True)
class ExplainedDecision:
    """One decision as it was made.

    probability  of what was chosen
    beside       other stays of the same camera decided at the same moment: none of two was given what the other was
    changed_by   what would have changed it, None where there was nothing else to choose
    taken_by     the one of them that got the likeliest, where this stay did not, None when it did
    """

    decision: Decision
    probability: float
    beside: tuple[StayKey, ...]
    changed_by: Counterfactual | None
    taken_by: StayKey | None = None


@dataclass(frozen=True)
class ExplainedStay:
    """Everything said about one stay.

    corrections  merges and splits that changed its id, in order; final_id and probability hold after them
    branch_weights  share of the local and of the global branch in its embedding, where the encoder has branches
    """

    camera: str
    track_id: int
    final_id: int
    probability: float
    decisions: tuple[ExplainedDecision, ...]
    corrections: tuple[Correction, ...]
    branch_weights: tuple[float, float] | None = None


@dataclass(frozen=True)
class Explanation:
    """Answer to "why": the stays of one person, or one stay.

    global_id  the id asked for, after merges; None when a stay was asked for
    asked      what was asked for, as it was written
    """

    asked: str
    global_id: int | None
    stays: tuple[ExplainedStay, ...]


def explain(folder: Path, who: str, log: tuple[Sequence[Decision], Sequence[Correction]] | None = None) -> Explanation:
    """Explain a person (`12` or `P12`) or a stay (`lobby:7`) of a run or replay folder; a run may still be going.

    A person's stays are those that hold the id at the end, and those that held it for a while. `log`: decisions and
    corrections, where they were read already. Raises ExplainError, JournalError for a damaged file.
    """
    decisions, corrections = (log[0], standing(log[1])) if log else _log(folder)
    ids = final_ids(decisions, corrections)
    alias = aliases(corrections)
    person = re.fullmatch(r"[Pp]?([0-9]+)", who.strip())
    if person:
        wanted = int(person[1])
        known = {d.global_id for d in decisions} | {c.into_id for c in corrections} | alias.keys()
        if wanted not in known:
            raise ExplainError(unknown_person(folder, wanted, known))
        now = alias.get(wanted, wanted)
        held = {d.key for d in decisions if alias.get(d.global_id, d.global_id) == now}
        held |= {key for key, (final, _) in ids.items() if final == now}
        return Explanation(who, now, _stays(folder, decisions, corrections, ids, held))
    key = stay_key(who)
    if key not in ids:
        raise ExplainError(unknown_stay(folder, key, ids))
    return Explanation(who, None, _stays(folder, decisions, corrections, ids, {key}))


def stay_key(text: str) -> StayKey:
    """A stay as people write it. Raises ExplainError.

    >>> stay_key("lobby: north:7")
    ('lobby: north', 7)
    """
    camera, colon, number = text.strip().rpartition(":")
    if not colon or not number.isdigit():
        raise ExplainError(f"{text!r}: expected a person such as P12, or a stay such as lobby:7")
    return camera, int(number)


def _log(folder: Path) -> tuple[list[Decision], list[Correction]]:
    place = folder if (folder / "decisions.jsonl").is_file() else folder / "journal"
    if not (place / "decisions.jsonl").is_file():
        raise ExplainError(f"{folder}: no decisions.jsonl here; a folder of `run` or `replay` was expected")
    return read_decisions(place / "decisions.jsonl"), standing(read_corrections(place / "corrections.jsonl"))


def _stays(
    folder: Path,
    decisions: Sequence[Decision],
    corrections: Sequence[Correction],
    ids: dict[StayKey, tuple[int, float]],
    wanted: set[StayKey],
) -> tuple[ExplainedStay, ...]:
    places: dict[StayKey, list[int]] = {}
    for n, decision in enumerate(decisions):
        if decision.key in wanted:
            places.setdefault(decision.key, []).append(n)
    spoke = _branch_weights(folder)
    stays = []
    for key in sorted(places, key=lambda k: (decisions[places[k][0]].time_s, k)):
        explained = tuple(_decision(decisions, n) for n in places[key])
        followed = _followed([decisions[n] for n in places[key]], corrections)
        stays.append(ExplainedStay(*key, *ids[key], explained, followed, spoke.get(key)))
    return tuple(stays)


def _branch_weights(folder: Path) -> dict[StayKey, tuple[float, float]]:
    """By stay, as its latest sighting says; of a run that still goes from its journal."""
    if (folder / "sightings.parquet").is_file():
        return read_branch_weights(folder / "sightings.parquet")
    seen = ((s.key, s.branch_weights) for s in read_journal_sightings(folder))
    return {key: (float(weights[0]), float(weights[1])) for key, weights in seen if weights is not None}


def _decision(decisions: Sequence[Decision], at: int) -> ExplainedDecision:
    decision, chosen = decisions[at], chosen_of(decisions[at])
    first = last = at
    while first > 0 and decisions[first - 1].time_s == decision.time_s:
        first -= 1
    while last + 1 < len(decisions) and decisions[last + 1].time_s == decision.time_s:
        last += 1
    others = [decisions[n] for n in range(first, last + 1) if n != at and decisions[n].camera == decision.camera]
    change = counterfactual(decision, weights_at(decisions, at))
    lost = change.runner_up if change and change.times_likelier < 1 else None
    taken_by = next((d.key for d in others if lost is not None and d.global_id == lost), None)
    beside = tuple(sorted(d.key for d in others))
    return ExplainedDecision(decision, chosen.probability if chosen else 0.0, beside, change, taken_by)


def _followed(decisions: Sequence[Decision], corrections: Sequence[Correction]) -> tuple[Correction, ...]:
    """The corrections this stay met on its way to its final id."""
    last, out = decisions[-1], []
    key, here = last.key, last.global_id
    for c in corrections:
        if c.kind == "split" and key in c.stays and c.time_s >= last.time_s:
            out.append(c)
            here = c.into_id
        elif c.kind == "merge" and (c.global_id == here or (key in c.stays and c.time_s < last.time_s)):
            out.append(c)
            here = c.into_id if c.global_id == here else here
    return tuple(out)


def unknown_person(folder: Path, wanted: int, known: set[int]) -> str:
    """What to say of a person who is not there, with the nearest ids."""
    near = sorted(sorted(known, key=lambda i: (abs(i - wanted), i))[:3])
    hint = f"; the nearest are {', '.join(f'P{i}' for i in near)}" if near else "; nobody was decided here"
    return f"{folder}: there is no person P{wanted}{hint}"


def unknown_stay(folder: Path, key: StayKey, ids: dict[StayKey, tuple[int, float]]) -> str:
    """What to say of a stay that is not there, with the nearest."""
    cameras = sorted({camera for camera, _ in ids})
    camera, number = key
    if camera not in cameras:
        guess = difflib.get_close_matches(camera, cameras, n=1, cutoff=0.5)
        hint = f"did you mean {guess[0]!r}?" if guess else f"there are {', '.join(cameras) or 'none'}"
        return f"{folder}: there is no camera {camera!r}; {hint}"
    here = sorted((n for c, n in ids if c == camera), key=lambda n: (abs(n - number), n))[:3]
    near = ", ".join(f"{camera}:{n}" for n in sorted(here))
    return f"{folder}: there is no stay {camera}:{number}; the nearest are {near}"


# ---------------------------------------------------------------------------------------------------- in words


def in_words(explanation: Explanation) -> list[str]:
    """The explanation as lines for people."""
    lines = []
    if explanation.global_id is not None:
        now = f"P{explanation.global_id}"
        asked = explanation.asked.strip().upper().removeprefix("P")
        also = "" if asked == str(explanation.global_id) else f" (P{asked} was merged into it)"
        count = sum(stay.final_id == explanation.global_id for stay in explanation.stays)
        lines += [f"{now}{also}: {count} {'stay' if count == 1 else 'stays'}"]
    for stay in explanation.stays:
        here = f"{stay.camera}:{stay.track_id}"
        moved = "" if explanation.global_id in {None, stay.final_id} else ", no longer this person"
        lines += ["", f"{here} is P{stay.final_id} ({_percent(stay.probability)}){moved}"]
        lines += [f"  {branch_words(stay.branch_weights)}"] if stay.branch_weights else []
        for item in stay.decisions:
            lines += [f"  {line}" for line in _decision_lines(item)]
        lines += [f"  corrected later: {correction_words(c)}" for c in stay.corrections]
    if explanation.stays:
        lines += ["", JOINT]
    return lines[1:] if lines and not lines[0] else lines


JOINT = (
    "joint: how likely look and delay alone make one person of both; the last column also weighs how many people may be"
    " about, how often somebody is new here, and that a wrong match costs more than a second id"
)


def correction_words(c: Correction) -> str:
    """One correction as a line.

    >>> correction_words(Correction("merge", 60.0, 15, 12, (("hall", 3),), 0.98, "mutual best"))
    'at 60.0 s P15 was found to be P12 (98.0 %): mutual best'
    """
    stays = ", ".join(f"{camera}:{track_id}" for camera, track_id in c.stays)
    said = f"P{c.global_id} was found to be P{c.into_id}" if c.kind == "merge" else ""
    said = said or f"{stays} was taken from P{c.global_id} and is P{c.into_id}"
    if c.kind in ("unmerge", "unsplit"):
        said = f"taken back: the {c.kind.removeprefix('un')} of P{c.global_id} and P{c.into_id}"
    if c.by:
        return f"{said}, says {c.by}"
    return f"at {c.time_s:.1f} s {said} ({_percent(c.probability)}){': ' if c.reason else ''}{c.reason}"


def branch_words(weights: tuple[float, float]) -> str:
    """Which branch spoke, as a line.

    >>> branch_words((0.617, 0.383))
    'its look: 62 % local branch (detail), 38 % global branch (the whole)'
    """
    local, whole = (100 * weight for weight in weights)
    return f"its look: {local:.0f} % local branch (detail), {whole:.0f} % global branch (the whole)"


_DID = {
    "new": "a new person,",
    "match": "matched to",
    "provisional": "for the time being",
    "confirm": "confirmed as",
    "switch": "changed to",
}


def _decision_lines(item: ExplainedDecision) -> list[str]:
    d, chosen = item.decision, chosen_of(item.decision)
    lines = [
        f"at {d.time_s:.1f} s {_DID[d.kind]} P{d.global_id}: {_percent(item.probability)}, margin {d.margin:.2f}, "
        f"tables version {d.table_version}"
    ]
    width = max((len(c.from_camera or "") for c in d.candidates), default=0)
    for c in d.candidates:
        mark = ">" if c is chosen else " "
        if c.global_id is None:
            lines.append(f"  {mark} {'a new person':<{58 + width}} {_percent(c.probability):>7}")
        else:
            delay = "-" if math.isnan(c.delay_s) else f"{c.delay_s:.1f} s"
            lines.append(
                f"  {mark} {f'P{c.global_id}':<6} from {c.from_camera or '':<{width}} cosine {c.appearance:5.2f}, "
                f"delay {delay:>9}, transition x{_times(c.transition):<6} joint {c.joint:.2f} "
                f"{f'face x{_times(math.exp(c.face))} ' if c.face else ''}"
                f"{_percent(c.probability):>7}"
            )
    return [*lines, *(f"  {line}" for line in changed_words(item))]


def changed_words(item: ExplainedDecision) -> list[str]:
    """What would have changed a decision, as lines."""
    change, chosen = item.changed_by, chosen_of(item.decision)
    if change is None or chosen is None:
        return ["there was nothing else to choose"]
    other = "a new person" if change.runner_up is None else f"P{change.runner_up}"
    if change.times_likelier < 1:
        went = "{}:{} of the same moment".format(*item.taken_by) if item.taken_by else "another stay"
        return [f"{other} was {_times(1 / change.times_likelier)} times likelier, but went to {went}"]
    lines = [f"{other} comes next, and had to be {_times(change.times_likelier)} times likelier to win:"]
    if change.transition_needed is not None:
        cosine, transition = change.appearance_needed, change.transition_needed
        looks = "no cosine is enough" if cosine is None else f"a cosine to {other} above {cosine:.2f}"
        lines.append(f"  {looks}, or a transition above x{_times(transition)}")
    if change.transition_limit is not None:
        cosine, transition = change.appearance_limit, change.transition_limit
        looks = "whatever the cosine" if cosine is None else f"a cosine to P{chosen.global_id} below {cosine:.2f}"
        lines.append(f"  {looks}, or a transition below x{_times(transition)}")
    return lines if len(lines) > 1 else [lines[0].removesuffix(" to win:")]


def _times(value: float) -> str:
    """A factor, short: 0.083, 3.4, 120, 2e+09."""
    if 0.95 < value < 1.05 and value != 1.0:
        return f"{value:.3f}"  # 1.02 times likelier is not "1 times"
    return f"{value:.0f}" if 99.5 <= value < 10000 else f"{value:.2g}"


def _percent(probability: float) -> str:
    """A probability in percent; nothing that is possible reads 0 %, and only certainty 100 %."""
    if 0 < probability < 0.001:
        return "<0.1 %"
    return f"{100 * probability:.0f} %" if probability == 1 else f"{min(100 * probability, 99.9):.1f} %"
