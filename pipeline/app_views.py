"""The views of the app: overview, persons, why, search, corrections, what if, tables, audit. Drawing only.

`st` is the streamlit module. What is drawn is worked out in app_data, app_pictures, app_replay and the commands' own
functions; every error that a user can mend is one line, a bug says that it is one.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline import app_data as data
from pipeline.annotate import clock_text
from pipeline.audit import audit, audit_path
from pipeline.journal import read_facts
from pipeline.run_edit import site_config, version_of

STYLE = """<style>
.block-container { padding-top: 2.6rem; }
.chip { display: inline-block; border-radius: .4rem; padding: .05rem .5rem; font-weight: 600; margin-right: .3rem; }
@media (max-width: 640px) { .block-container { padding: 4.2rem .8rem 2rem .8rem; } }
</style>"""
MOST_STAYS = 25
PICTURE_PX = 140
PERSON_COLUMNS = {
    "global_id": "person",
    "way": "way",
    "stays": "stays",
    "first_s": "first seen",
    "last_s": "last seen",
    "in_view_s": "in view, s",
    "least_sure": "least sure",
}


def show(st: Any, runs: Sequence[data.RunEntry], user: str) -> None:
    """The whole page for somebody who may see it."""
    wanted = st.query_params.get("run")
    names = [entry.name for entry in runs]
    with st.sidebar:
        st.markdown("## Identrix")
        chosen = st.selectbox("Run", names, index=names.index(wanted) if wanted in names else 0, key="run")
        entry = runs[names.index(chosen)]
        st.caption(entry.says)
        st.caption(f"You are **{user}**. What you look at and change is logged.")
    if entry.state == "broken":
        st.error(f"This run cannot be shown. {entry.says}")
        return
    views: dict[str, Callable[[Any, Path, str], None]] = {"Overview": _going} if entry.state == "going" else VIEWS
    page = st.segmented_control("View", list(views), default="Overview", key="page", label_visibility="collapsed")
    with _clear_errors(st):
        _log_once(st, entry.path, user, "app: opened")
        views[page or "Overview"](st, entry.path, user)


@contextlib.contextmanager
def _clear_errors(st: Any) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        line = data.in_one_line(error)
        if line is None and not isinstance(error, OSError):
            raise
        st.error(line or str(error))


def _log_once(st: Any, run: Path, user: str, did: str, who: str = "") -> None:
    """One line in the audit log per session, run and person: not one per click."""
    said = st.session_state.setdefault("logged", set())
    if (run, did, who) not in said:
        audit(site_config(run), did, by=user, run=run, who=who)
        said.add((run, did, who))


# ---------------------------------------------------------------------------------------------------- overview


def _overview(st: Any, run: Path, user: str) -> None:
    stays = data.stays_table(run)
    counters = read_facts(run).get("counters", {})
    with st.container(horizontal=True):
        for name in ("persons", "stays", "transitions", "corrections"):
            st.metric(name if name != "transitions" else "moves between cameras", counters.get(name, 0), width=160)
    _videos(st, run)
    if stays:
        st.subheader("Who was where")
        st.vega_lite_chart(spec=data.timeline_chart(stays), width="stretch")
        if len({s["global_id"] for s in stays}) > 60:
            st.caption("The first 60 persons; all of them are under Persons and in report.html.")
    else:
        st.info("Nobody was seen in this run.")


def _videos(st: Any, run: Path) -> None:
    from pipeline.redraw import is_stale

    films = data.films_of(run)
    if not films:
        st.info("This run has no videos.")
        return
    left, right = st.columns([3, 1])
    name = (right.radio if len(films) < 8 else right.selectbox)("Video", list(films), key="film")
    moves = _handovers(run, name)
    at = right.selectbox("Go to", ["the beginning", *moves], key="at")
    if is_stale(run):
        right.warning("Ids were corrected since: the video shows the old ones (Corrections, Redraw).")
    left.video(str(films[name]), start_time=max(moves.get(at, 0.0), 0.0), muted=True)


def _handovers(run: Path, film: str) -> dict[str, float]:
    """What can be jumped to in a video: "P3 from a to b" -> seconds."""
    import pyarrow.csv as pacsv

    start_s = read_facts(run).get("video_start_s", {}).get(film)
    path = run / "transitions.csv"
    if start_s is None or not path.is_file():
        return {}
    rows = [r for r in pacsv.read_csv(path).to_pylist() if film == "mosaic" or str(r["to_camera"]) == film]
    rows.sort(key=lambda row: row["entered_s"])
    return {
        f"P{r['global_id']} from {r['from_camera']} to {r['to_camera']}, {clock_text(r['entered_s'])}": (
            r["entered_s"] - start_s - 1.0
        )
        for r in rows[:200]
    }


def _going(st: Any, run: Path, user: str) -> None:
    """A run that goes on: what was decided last, looked at again every two seconds."""
    st.info("This run is going on (or was killed: `identrix finish` completes it). Everything else comes with its end.")

    def now() -> None:
        decisions = data.log_of(run)
        columns = st.columns(3)
        columns[0].metric("persons so far", len({d.global_id for d in decisions}))
        columns[1].metric("stays so far", len({d.key for d in decisions}))
        columns[2].metric("cameras with people", len({d.camera for d in decisions}))
        rows = data.on_site_now(decisions)
        if rows:
            st.dataframe(rows, width="stretch", hide_index=True)
        else:
            st.caption("Nobody was decided on yet.")

    films = list(data.films_of(run).items())[:2]
    if films:
        name, film = films[-1]  # the one before the newest, which is still being written
        st.caption(name)
        st.video(str(film), muted=True)
    st.fragment(now, run_every=2.0)()


# ---------------------------------------------------------------------------------------------------- persons


def _persons(st: Any, run: Path, user: str) -> None:
    stays = data.stays_table(run)
    rows = data.persons_of(stays)
    wanted = st.text_input("Find", placeholder="P3, or a camera", key="find").strip().lower()
    if wanted:
        number = wanted.removeprefix("p")
        rows = [r for r in rows if wanted in r.way.lower() or (number.isdigit() and number == str(r.global_id))]
    st.caption(f"{len(rows)} persons. Choose one to see where they were.")
    shown = [
        {
            PERSON_COLUMNS[name]: value
            for name, value in {
                "global_id": f"P{r.global_id}",
                "way": r.way,
                "stays": r.stays,
                "first_s": clock_text(r.first_s),
                "last_s": clock_text(r.last_s),
                "in_view_s": round(r.in_view_s, 1),
                "least_sure": round(r.least_sure, 3),
            }.items()
        }
        for r in rows
    ]
    if shown:
        st.dataframe(shown, width="stretch", hide_index=True, height=min(38 + 35 * len(shown), 360))
    else:
        st.warning("Nobody like that is in this run.")
        return
    person = _choose_person(st, [r.global_id for r in rows], "person_shown")
    _log_once(st, run, user, "app: looked at", f"P{person}")
    mine = sorted((s for s in stays if s["global_id"] == person), key=lambda s: s["entered_s"])
    _chip(st, person, f"{len(mine)} stays")
    _stay_cards(st, run, mine[:MOST_STAYS])


def _choose_person(st: Any, persons: Sequence[int], key: str, label: str = "Person") -> int:
    chosen = st.session_state.get("who")
    index = list(persons).index(chosen) if chosen in persons else 0
    person = st.selectbox(label, persons, index=index, format_func=lambda p: f"P{p}", key=key)
    st.session_state["who"] = person
    return int(person)


def _chip(st: Any, person: int, text: str = "") -> None:
    colour = data.hex_colour(person)
    red, green, blue = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
    ink = "#000" if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else "#fff"
    st.html(f'<span class="chip" style="background:{colour};color:{ink}">P{person}</span> {text}')


def _stay_cards(st: Any, run: Path, stays: Sequence[dict[str, Any]]) -> None:
    from pipeline.app_pictures import pictures_of

    pictures = pictures_of(run, [(s["camera"], s["track_id"]) for s in stays])
    with st.container(horizontal=True):
        for stay in stays:
            with st.container(border=True, width=PICTURE_PX + 35):
                picture = pictures.get((stay["camera"], stay["track_id"]))
                if picture is not None:
                    st.image(picture, width=PICTURE_PX)
                st.markdown(f"**{stay['camera']}:{stay['track_id']}**")
                st.caption(f"{clock_text(stay['entered_s'])}, {stay['dwell_s']:.1f} s, {stay['probability']:.1%} sure")
    if stays and not pictures:
        st.caption("No pictures: the run has no videos to cut them from.")


# -------------------------------------------------------------------------------------------------------- why


def _why(st: Any, run: Path, user: str) -> None:
    from pipeline.explain import branch_words, correction_words, explain

    stays = data.stays_table(run)
    persons = [row.global_id for row in data.persons_of(stays)]
    if not persons:
        st.info("Nobody was seen in this run.")
        return
    person = _choose_person(st, persons, "person_explained", "Why is this")
    _log_once(st, run, user, "app: explained", f"P{person}")
    log = data.log_now(run)
    decisions = log.decisions
    explanation = explain(run, f"P{person}", (decisions, log.corrections))
    places = {(d.key, d.time_s, d.kind): n for n, d in enumerate(decisions)}
    ends = data.ends_of(decisions, stays)
    tables = _tables_of_run(run)
    for number, stay in enumerate(explanation.stays[:MOST_STAYS]):
        title = f"{stay.camera}:{stay.track_id} is P{stay.final_id} ({stay.probability:.1%})"
        with st.expander(title, expanded=number == len(explanation.stays[:MOST_STAYS]) - 1):
            last = stay.decisions[-1]
            st.markdown(f"**{data.headline(last)}**")
            if stay.branch_weights:
                st.caption(branch_words(stay.branch_weights))
            rows = data.candidate_rows(
                decisions, places[last.decision.key, last.decision.time_s, last.decision.kind], ends
            )
            _side_by_side(st, run, (stay.camera, stay.track_id), rows)
            _charts(st, tables, stay.camera, rows)
            st.dataframe([_candidate(row) for row in rows], width="stretch", hide_index=True)
            for line in data.why_lines(last):
                st.markdown(f"- {line.strip()}")
            for before in stay.decisions[:-1]:
                st.caption(f"before: {data.headline(before)}")
            for correction in stay.corrections:
                st.markdown(f"- corrected: {correction_words(correction)}")
    if len(explanation.stays) > MOST_STAYS:
        st.caption(f"The first {MOST_STAYS} of {len(explanation.stays)} stays; `identrix explain` has all.")


def _candidate(row: data.CandidateRow) -> dict[str, Any]:
    return {
        "": "→" if row.chosen else "",
        "candidate": row.name,
        "from": row.from_camera or "",
        "cosine": None if row.cosine is None else round(row.cosine, 3),
        "delay, s": None if row.delay_s is None else round(row.delay_s, 1),
        "delay says ×": None if row.transition is None else float(f"{row.transition:.3g}"),
        "joint": round(row.joint, 3),
        "probability": round(row.probability, 4),
    }


def _side_by_side(st: Any, run: Path, stay: tuple[str, int], rows: Sequence[data.CandidateRow]) -> None:
    from pipeline.app_pictures import pictures_of

    near = [row for row in rows if row.stay is not None][:4]
    pictures = pictures_of(run, [stay, *(row.stay for row in near if row.stay)])
    if not pictures:
        return
    with st.container(horizontal=True):
        with st.container(width=PICTURE_PX):
            st.caption("who is this?")
            if stay in pictures:
                st.image(pictures[stay], width=PICTURE_PX)
        for row in near:
            with st.container(width=PICTURE_PX):
                st.caption(f"{'→ ' if row.chosen else ''}{row.name}, {row.probability:.1%}")
                if row.stay in pictures:
                    st.image(pictures[row.stay], width=PICTURE_PX)
                    st.caption(f"{row.stay[0]}:{row.stay[1]}, cosine {row.cosine:.2f}")


def _charts(st: Any, tables: Any, camera: str, rows: Sequence[data.CandidateRow]) -> None:
    known = [row for row in rows if row.from_camera is not None and row.delay_s is not None]
    left, right = st.columns(2)
    nats = data.nats_chart([row for row in rows[:5] if row.global_id is not None])
    if nats:
        left.caption("What spoke for and against each")
        left.vega_lite_chart(spec=nats, width="stretch")
    if tables is not None and known:
        origin = next((row for row in known if row.chosen), known[0]).from_camera
        delays = [
            (row.name, row.delay_s or 0.0, data.hex_colour(row.global_id or 0))
            for row in known
            if row.from_camera == origin
        ]
        chart = data.delay_chart(tables, str(origin), camera, delays[:4])
        if chart:
            right.caption(f"How long people take from {origin} to {camera}")
            right.vega_lite_chart(spec=chart, width="stretch")


def _tables_of_run(run: Path) -> Any:
    from pipeline.tables_file import read_tables

    file = next((run / n for n in ("tables_end.json", "tables_start.json") if (run / n).is_file()), None)
    return None if file is None else read_tables(file, site_config(run).tables)


# ------------------------------------------------------------------------------------------------------ search


def _search(st: Any, run: Path, user: str) -> None:
    from pipeline.search import search

    st.caption("A photograph or a crop of one person. It is looked at and forgotten: it is not kept.")
    photo = st.file_uploader("Picture", type=["jpg", "jpeg", "png", "webp", "bmp"], key="photo")
    left, right = st.columns(2)
    top = left.slider("How many", 1, 20, 5)
    whole = right.checkbox("The picture shows one person and nothing else", value=True)
    if photo is None:
        return
    with tempfile.NamedTemporaryFile(suffix=Path(photo.name).suffix) as file:
        file.write(photo.getbuffer())
        file.flush()
        audit(site_config(run), "app: searched by picture", by=user, run=run)
        with st.spinner("looking"):
            try:
                found = search(run, Path(file.name), top=top, whole=whole)
            except Exception as error:
                line = data.in_one_line(error)
                if line is None:
                    raise
                st.error(line.replace(file.name, photo.name))
                return
    for note in found.notes:
        st.caption(note)
    st.caption(f"{found.people} persons in this run; none of them: {found.nobody:.1%}")
    from pipeline.app_pictures import pictures_of

    pictures = pictures_of(run, [(f.stays[0].camera, f.stays[0].track_id) for f in found.found])
    for person in found.found:
        stay = person.stays[0]
        with st.container(border=True):
            picture, text = st.columns([1, 3])
            if (stay.camera, stay.track_id) in pictures:
                picture.image(pictures[stay.camera, stay.track_id], width=PICTURE_PX)
            with text:
                _chip(st, person.global_id, f"{person.probability:.1%}, cosine {person.similarity:.2f}")
                st.caption(f"{stay.camera}:{stay.track_id}, {clock_text(stay.entered_s)}, {len(person.stays)} stays")


# -------------------------------------------------------------------------------------------------- corrections


def _corrections(st: Any, run: Path, user: str) -> None:
    from pipeline import corrections
    from pipeline.explain import correction_words
    from pipeline.redraw import is_stale, redraw

    # A click is about the run as it was when this page was last drawn: refused when somebody was faster.
    how = corrections.How(by=user, version=st.session_state.get(f"seen {run}"))
    st.session_state[f"seen {run}"] = version_of(run)
    log, ids = data.log_now(run), data.ids_now(run)
    persons = sorted({i for i, _ in ids.values()})
    said = st.session_state.pop("said", None)
    if said:
        st.success(said)
    st.subheader("Two persons are one")
    left, right, button = st.columns([2, 2, 1], vertical_alignment="bottom")
    one = left.selectbox("Person", persons, format_func=lambda p: f"P{p}", key="merge_one")
    two = right.selectbox(
        "is the same as", [p for p in persons if p != one], format_func=lambda p: f"P{p}", key="merge_two"
    )
    anyway = st.checkbox("also when both were in one camera at one time", key="anyway")
    if button.button("Merge", type="primary", key="merge", disabled=two is None):
        _correct(
            st,
            run,
            user,
            f"merge P{one} P{two}",
            lambda: corrections.merge(run, f"P{one}", f"P{two}", anyway=anyway, how=how),
        )
    st.subheader("A stay is somebody else's")
    left, middle, right, button = st.columns([1, 2, 2, 1], vertical_alignment="bottom")
    whose = left.selectbox("Person", persons, format_func=lambda p: f"P{p}", key="split_of")
    keys = [f"{c}:{n}" for (c, n), (i, _) in sorted(ids.items()) if i == whose]
    stays = middle.multiselect("Stays", keys, key="split_stays")
    new = "somebody new"
    into = right.selectbox("are", [new, *(f"P{p}" for p in persons if p != whose)], key="split_into")
    if button.button("Split", type="primary", key="split", disabled=not stays):
        target = None if into == new else into
        _correct(st, run, user, f"split {' '.join(stays)}", lambda: corrections.split(run, stays, target, how=how))
    st.subheader("Made so far")
    rows = corrections.listed(log)
    for number, correction in reversed(rows[-50:]):
        text, button = st.columns([5, 1], vertical_alignment="center")
        text.markdown(f"{number}. {correction_words(correction)}")
        if button.button("Undo", key=f"undo {number}"):
            _correct(st, run, user, f"undo {number}", lambda n=number: corrections.undo(run, n, how=how))  # type: ignore[misc]
    if not rows:
        st.caption("Nothing was corrected.")
    if is_stale(run):
        st.warning("The videos still show the ids from before.")
        if st.button("Redraw the videos", key="redraw"):
            audit(site_config(run), "app: redraw", by=user, run=run)
            bar = st.progress(0.0, "drawing")
            redraw(run, lambda stage, done, total: bar.progress(min(done / total, 1.0) if total else 0.0, stage))
            st.rerun()


def _correct(st: Any, run: Path, user: str, what: str, make: Callable[[], Any]) -> None:
    """Make a correction, and say what it did on the page drawn next. After an error the page is drawn as it is now."""
    from pipeline.explain import correction_words

    action, _, who = what.partition(" ")
    audit(site_config(run), f"app: {action}", by=user, run=run, who=who)
    with st.spinner("writing"):
        found = make()
    st.session_state[f"seen {run}"] = version_of(run)
    taught = found.not_taught or f"the site's tables changed by {found.taught:+.2f} observations"
    st.session_state["said"] = f"{correction_words(found.correction)}. {found.persons} persons now; {taught}."
    st.rerun()


# ------------------------------------------------------------------------------------------------------ what if


def _what_if(st: Any, run: Path, user: str) -> None:
    from pipeline.app_replay import SLIDERS, overrides_of, settings_of, what_if

    own = settings_of(run)
    st.caption("The run's sightings are matched again with these settings. Nothing is changed.")
    values = {}
    with st.form("what if"):
        columns = st.columns(2)
        for number, slider in enumerate(SLIDERS):
            value = min(max(own[slider.key], slider.low), slider.high)
            values[slider.key] = columns[number % 2].slider(
                slider.key, slider.low, slider.high, value, slider.step, help=slider.says, key=f"if {slider.key}"
            )
            columns[number % 2].caption(slider.says)
        sent = st.form_submit_button("Replay", type="primary")
    if not sent:
        return
    overrides = overrides_of(run, values)
    audit(site_config(run), "app: what if", by=user, run=run)
    bar = st.progress(0.0, "replaying")
    found = what_if(
        run, overrides, lambda stage, done, total: bar.progress(min(done / total, 1.0) if total else 1.0, stage)
    )
    bar.empty()
    left, right = st.columns(2)
    left.metric("persons", found.persons_after, found.persons_after - found.persons_before, delta_color="off")
    right.metric("stays decided differently", len(found.changed), f"of {found.stays}", delta_color="off")
    st.code(
        "\n".join(["match again: " + (" ".join(overrides) or "the run's own settings"), *found.changed]) or " ",
        wrap_lines=True,
    )


# ------------------------------------------------------------------------------------------------------- tables


def _tables(st: Any, run: Path, user: str) -> None:
    from pipeline import tables_command
    from pipeline.freezing import freeze, is_frozen, unfreeze

    # Whether the site is frozen now; that the run was is another matter.
    config = site_config(run).model_copy(update={"frozen": False})
    _log_once(st, run, user, "app: looked at the tables")
    with tables_command.site_tables(config) as (_, tables):
        rows = tables_command.summaries(tables)
    frozen = is_frozen(config)
    st.markdown(
        f"Site **{config.site_name}**: {len(rows)} pairs of cameras"
        + (", **frozen**: runs teach nothing" if frozen else "")
    )
    if rows:
        st.dataframe(
            [
                {
                    "from": row.from_camera,
                    "to": row.to_camera,
                    "observations": round(row.evidence, 2),
                    "median, s": None if row.median_s is None else round(row.median_s, 1),
                }
                for row in rows
            ],
            width="stretch",
            hide_index=True,
        )
        names = {f"{row.from_camera} → {row.to_camera}": row for row in rows}
        row = names[st.selectbox("Pair", list(names), key="pair")]
        chart = data.delay_chart(tables, row.from_camera, row.to_camera, [])
        if chart:
            st.vega_lite_chart(spec=chart, width="stretch")
            st.caption("Bars: what was seen, as a share per second. Line: what is expected of the next person.")
    else:
        st.info("Nothing was learnt yet.")
    left, right = st.columns(2)
    if left.button("Unfreeze" if frozen else "Freeze", key="freeze", help="frozen tables are read and not taught"):
        audit(config, "app: unfreeze" if frozen else "app: freeze", by=user, run=run)
        (unfreeze if frozen else freeze)(config)
        st.rerun()
    sure = right.checkbox("I want everything learnt about this site forgotten", key="sure")
    if right.button("Reset", key="reset", disabled=not sure):
        audit(config, "app: reset tables", by=user, run=run)
        tables_command.reset(config)
        st.rerun()


def _audit(st: Any, run: Path, user: str) -> None:
    path = audit_path(site_config(run))
    _log_once(st, run, user, "app: looked at the audit log")
    lines = path.read_text(encoding="utf-8").splitlines()[-500:] if path.is_file() else []
    rows = [json.loads(line) for line in reversed(lines)]
    st.caption(f"The last {len(rows)} lines of {path}")
    st.dataframe([{**row, "run": Path(row["run"]).name} for row in rows], width="stretch", hide_index=True)


VIEWS: dict[str, Callable[[Any, Path, str], None]] = {
    "Overview": _overview,
    "Persons": _persons,
    "Why": _why,
    "Search": _search,
    "Corrections": _corrections,
    "What if": _what_if,
    "Tables": _tables,
    "Audit": _audit,
}
