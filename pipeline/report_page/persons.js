"use strict";
// Persons: the list (only rows on screen exist), the card of one person, finding and ordering for list and timeline.

const HIGH = 58;
const list = byId("list");

function chosenRows() {
  const wanted = byId("find").value.trim().toLowerCase(), camera = byId("by").value, order = byId("order").value;
  const number = /^p?(\d+)$/.exec(wanted);
  const rows = [];
  for (let p = 0; p < persons.length; p++) {
    if (camera === "moved" ? summary[p].cameras.size < 2 : camera !== "" && !summary[p].cameras.has(Number(camera))) continue;
    if (wanted && (number ? !String(persons[p]).startsWith(number[1]) : !pathOf(p).some((name) => name.toLowerCase().includes(wanted)))) continue;
    rows.push(p);
  }
  const keys = {
    first: (p) => p,
    cameras: (p) => -summary[p].cameras.size * 1e6 - (first[p + 1] - first[p]),
    long: (p) => -summary[p].seen,
    unsure: (p) => summary[p].least,
    id: (p) => persons[p],
  };
  const exact = (p) => (number && String(persons[p]) === number[1] ? 0 : 1);
  const key = keys[order];
  return rows.sort((a, b) => exact(a) - exact(b) || key(a) - key(b) || a - b);
}

function refresh() {
  view.rows = chosenRows();
  view.chosen = byId("find").value && view.rows.length ? 0 : -1;
  box.scrollTop = list.scrollTop = 0;
  const cut = view.rows.length < persons.length ? ` of ${persons.length.toLocaleString("en")}` : "";
  byId("count").textContent = `${view.rows.length.toLocaleString("en")}${cut} ${persons.length === 1 ? "person" : "persons"}; choose one for the whole path.`;
  layOut();
  list.replaceChildren(spacer);
  spacer.style.height = view.rows.length * HIGH + "px";
  list.style.height = view.rows.length * HIGH < 300 ? view.rows.length * HIGH + 2 + "px" : "";
  fillList();
}

const spacer = el("div");
const live = new Map();
const fillList = atMostOnceAFrame(() => {
  const from = Math.max(0, Math.floor(list.scrollTop / HIGH) - 4), to = Math.min(view.rows.length, from + Math.ceil(list.clientHeight / HIGH) + 8);
  for (const [row, node] of live) if (row < from || row >= to || !node.isConnected || node.person !== view.rows[row]) { node.remove(); live.delete(row); }
  for (let row = from; row < to; row++) {
    if (live.has(row)) continue;
    const p = view.rows[row], about = summary[p], node = rowOf(p);
    node.person = p;
    node.style.top = row * HIGH + "px";
    live.set(row, node);
    list.append(node);
  }
});

function rowOf(p) {
  const about = summary[p];
  return el("button", { class: "row", onclick: () => openCard(p) },
    el("span", {}, chip(p)), el("span", { class: "way" }, pathOf(p).slice(0, 40).join(" → ")), el("span", {}, percent(about.least / 1000)),
    el("span", { class: "when" }, `${clock(about.begin)} – ${clock(about.end)} · ${long(about.seen / 100)} in view · ${plural(first[p + 1] - first[p], "stay")}`));
}

list.addEventListener("scroll", fillList);
list.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const now = [...live].find(([, node]) => node === document.activeElement);
  if (!step || !now) return;
  event.preventDefault();
  const next = Math.min(Math.max(now[0] + step, 0), view.rows.length - 1);
  if (next * HIGH < list.scrollTop || (next + 1) * HIGH > list.scrollTop + list.clientHeight) list.scrollTop += step * HIGH;
  setTimeout(() => live.get(next)?.focus({ preventScroll: true }), 40);
});

// The card

const card = byId("card");

function openCard(p, stay = -1) {
  const about = summary[p];
  const screen = Object.keys(data.videos).length ? el("video", { controls: "", preload: "metadata", playsinline: "", hidden: "" }) : null;
  const play = (address) => {
    screen.hidden = false;
    screen.src = address;
    screen.play().catch(() => {});
    screen.scrollIntoView({ block: "nearest" });
  };
  const link = (name, hundredths) => {
    const address = momentOf(name, hundredths);
    return address && el("a", { href: address, onclick: (event) => { if (!event.ctrlKey && !event.metaKey) { event.preventDefault(); play(address); } } }, name);
  };
  const path = el("ol", { class: "path" });
  let before = -1;
  for (let n = first[p]; n < first[p + 1]; n++) {
    const name = cameras[stays.camera[n]], moved = before >= 0 && stays.camera[before] !== stays.camera[n];
    const gap = before >= 0 ? (stays.entered[n] - stays.entered[before] - stays.dwell[before]) / 100 : null;
    const why = whyOf(n), videos = [link("mosaic", stays.entered[n]), link(name, stays.entered[n])].filter(Boolean);
    path.append(el("li", n === stay ? { class: "on" } : {},
      el("span", {}, el("b", {}, name), moved ? el("span", { class: "sub" }, gap >= 0 ? ` after ${long(gap)}` : " in both views at once") : null),
      el("span", { class: "figures" }, `${clock(stays.entered[n], { tenths: true })} · ${long(stays.dwell[n] / 100)} · ${percent(stays.sure[n] / 1000)}`),
      why ? el("span", { class: "why" }, why) : null,
      videos.length ? el("span", { class: "watch" }, "watch: ", ...videos.flatMap((node, k) => (k ? [" · ", node] : [node]))) : null));
    before = n;
  }
  const corrections = data.corrections.filter((c) => c.into === persons[p] || c.from === persons[p]);
  const crops = [];
  for (let n = first[p]; n < first[p + 1] && crops.length < 24; n++) {
    const crop = data.crops[stays.camera[n] + ":" + stays.track[n]];
    if (crop) crops.push(el("img", { src: crop, loading: "lazy", alt: `P${persons[p]} in ${cameras[stays.camera[n]]}`, title: cameras[stays.camera[n]] + ", " + clock(stays.entered[n]) }));
  }
  card.replaceChildren(
    el("div", { class: "top" }, el("h2", { id: "cardname" }, chip(p), ` ${plural(about.cameras.size, "camera")}, ${plural(first[p + 1] - first[p], "stay")}`), el("button", { onclick: () => card.close(), "aria-label": "close" }, "✕")),
    el("p", { class: "sub" }, `${clock(about.begin, { date: true })} – ${clock(about.end)}, ${long(about.seen / 100)} in view. Least sure: ${percent(about.least / 1000)}.`),
    ...(screen ? [screen] : []), el("div", { class: "crops" }, ...crops), path,
    ...(corrections.length ? [el("h3", {}, "Corrected later"), el("ul", {}, ...corrections.map((c) => el("li", {}, correctionWords(c))))] : []),
    el("p", { class: "sub" }, `The whole story: identrix explain RUN P${persons[p]}`),
  );
  history.replaceState(null, "", "#P" + persons[p]);
  if (!card.open) card.showModal();
  card.scrollTop = 0;
  card.querySelector("li.on")?.scrollIntoView({ block: "nearest" });
}

card.addEventListener("close", () => { card.querySelector("video")?.pause(); history.replaceState(null, "", "#"); if (document.activeElement === document.body) box.focus({ preventScroll: true }); });
card.addEventListener("click", (event) => { if (event.target === card && event.clientX < card.getBoundingClientRect().left) card.close(); });

/** Address of a moment in a video of the run; of several files the one that has begun by then. */
function momentOf(name, hundredths) {
  const files = data.videos[name];
  if (!files) return null;
  const [file, start] = files.findLast((one) => one[1] <= hundredths) || files[0];
  return file.split("/").map(encodeURIComponent).join("/") + "#t=" + Math.max(0, (hundredths - start) / 100).toFixed(2);
}

function correctionWords(c) {
  const what = c.kind === "merge" ? `P${c.from} was found to be P${c.into}` : `${c.stays.map((stay) => stay.join(":")).join(", ")} was taken from P${c.from} and is P${c.into}`;
  return `${clock(c.at)}: ${what}${c.sure === null ? "" : ` (${percent(c.sure)})`}${c.reason ? ": " + c.reason : ""}`;
}

function whyOf(n) {
  const why = data.whys?.[n];
  if (!why) return "";
  const [kind, from, cosine, delay, times, sure, second, secondSure] = why;
  const next = second === null ? "" : `; next ${second ? "P" + second : "a new person"} ${percent(secondSure || 0)}`;
  if (kind === "new") return `new here ${percent(sure)}${next}`;
  const when = delay === null ? "" : `, ${long(delay)} ${times >= 1 ? `is ${times.toPrecision(2)} times likelier than chance` : `is ${(1 / Math.max(times, 1e-9)).toPrecision(2)} times rarer than chance`}`;
  // A decision confirmed at the end of a stay names the camera of the stay itself: nothing to tell.
  const where = from && from !== cameras[stays.camera[n]] ? `like in ${from}: ` : "";
  return `${where}cosine ${cosine?.toFixed(2)}${when}${next}`;
}
