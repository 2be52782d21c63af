"use strict";
// Puts the page together; draws what is on the first screen first.

function head() {
  const moves = data.flows.reduce((sum, flow) => sum + flow[2], 0), moved = summary.filter((one) => one.cameras.size > 1).length;
  const dwell = Float64Array.from(stays.dwell).sort();
  byId("title").textContent = document.title = data.site;
  byId("span").textContent = persons.length ? `${clock(0, { date: true })} – ${clock(data.end, { date: data.utc })}, ${long(data.end / 100)}` : "Nobody was seen.";
  const troubles = Object.entries(data.failed).map(([name, why]) => `${name}: ${why}`);
  byId("troubles").replaceChildren(...troubles.map((line) => el("span", { class: "bad" }, line, el("br"))));
  const tiles = [[persons.length, "persons"], [moved, "seen by more than one camera"], [stays.camera.length, "stays"], [moves, "moves between cameras"], [long(dwell.length ? dwell[dwell.length >> 1] / 100 : null), "median stay"], [data.corrections.length, "ids corrected later"]];
  byId("tiles").replaceChildren(...tiles.map(([value, name]) => el("div", {}, el("b", {}, value.toLocaleString("en")), el("span", {}, name))));
  byId("by").append(el("option", { value: "" }, "all cameras"), el("option", { value: "moved" }, "two cameras or more"), ...cameras.map((name, n) => el("option", { value: n }, name)));
}

function byHash() {
  const wanted = /^#P(\d+)$/.exec(location.hash), p = wanted ? persons.indexOf(Number(wanted[1])) : -1;
  if (p >= 0) openCard(p);
}

for (const id of ["find", "by", "order"]) byId(id).addEventListener("input", refresh);
byId("find").addEventListener("keydown", (event) => {
  // Prevented, or the same key press would press the card's close button, which has the focus by then.
  if (event.key === "Enter" && view.rows.length) { event.preventDefault(); openCard(view.rows[0]); }
  if (event.key === "ArrowDown") { event.preventDefault(); box.focus(); choose(0); }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !["INPUT", "SELECT"].includes(document.activeElement.tagName) && !card.open) { event.preventDefault(); byId("find").focus(); }
});
new ResizeObserver(layOut).observe(document.body);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
window.addEventListener("hashchange", byHash);

// On paper nothing scrolls: the first rows of timeline and list, whole.
window.addEventListener("beforeprint", () => {
  const rows = view.rows.slice(0, 60), paperRows = el("canvas"), wide = 1000;
  const pen = penFor(paperRows, wide, AXIS + rows.length * ROW);
  drawRows(pen, wide, AXIS + rows.length * ROW, rows, 0, view.low, view.high);
  const more = (count) => (view.rows.length > count ? el("p", { class: "sub" }, `and ${view.rows.length - count} more`) : "");
  byId("printedtimeline").replaceChildren(paperRows, more(60));
  const shown = view.rows.slice(0, 300).map((p) => [chip(p), pathOf(p).slice(0, 20).join(" → "), clock(summary[p].begin), clock(summary[p].end), long(summary[p].seen / 100), percent(summary[p].least / 1000)]);
  byId("printedlist").replaceChildren(table(["person", "way", "first seen", "last seen", "in view", "least sure"], shown, 4), more(300));
});

head();
refresh();
byHash();
// The rest is below the first screen: after the first picture.
requestAnimationFrame(() => setTimeout(() => {
  drawGraph();
  drawTimes();
  drawCameras();
  drawSure();
  drawHealth();
  drawSettings();
  document.documentElement.dataset.readyMs = Math.round(performance.now());
}));
