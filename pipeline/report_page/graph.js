"use strict";
// Ways between cameras: the graph (arrows as wide as their flow) and the table of flows, and travel times per pair.

const MOST_ARROWS = 60;
const CROWDED = cameras.length > 12;
const LABELLED = CROWDED ? 0 : 16; // without a camera chosen; more would hide each other

function drawGraph() {
  const ys = data.places.map(([, y]) => y), flat = Math.max(...ys) - Math.min(...ys) < 0.01;
  // As wide as the place for it, so that texts keep their size; a crowd is drawn smaller instead.
  const wide = CROWDED ? 620 : Math.min(620, Math.max(330, byId("graph").clientWidth)), tall = flat ? 190 : CROWDED ? 560 : 430, padX = CROWDED ? 60 : 85, padY = flat ? 0 : 50;
  const at = data.places.map(([x, y]) => [padX + x * (wide - 2 * padX), padY + y * (tall - 2 * padY)]);
  const picture = svg("svg", { viewBox: `0 0 ${wide} ${tall}`, role: "group", "aria-label": "Cameras, and how many people went from one to another" });
  const arrows = data.flows.filter(([a, b]) => a !== b).slice(0, MOST_ARROWS);
  const most = Math.max(1, ...arrows.map((flow) => flow[2]));
  const drawn = [];
  arrows.forEach(([from, to, count, , median], n) => {
    const [x1, y1] = at[from], [x2, y2] = at[to];
    const dx = x2 - x1, dy = y2 - y1, length = Math.hypot(dx, dy) || 1;
    // Bent to the right of its way, so that there and back are two arrows.
    const bend = Math.min(0.16 * length, 42), cx = (x1 + x2) / 2 - (dy / length) * 2 * bend, cy = (y1 + y2) / 2 + (dx / length) * 2 * bend;
    const width = (CROWDED ? 0.6 : 1) * (1.2 + 7 * (count / most));
    const [sx, sy] = rim([x1, y1], [cx, cy], cameras[from]), [ex, ey] = rim([x2, y2], [cx, cy], cameras[to]);
    const angle = Math.atan2(ey - cy, ex - cx), head = 7 + width;
    const tipX = ex, tipY = ey, baseX = ex - Math.cos(angle) * head, baseY = ey - Math.sin(angle) * head;
    const side = (sign) => `${baseX + sign * Math.sin(angle) * head * 0.55},${baseY - sign * Math.cos(angle) * head * 0.55}`;
    const title = svg("title", {}, `${cameras[from]} to ${cameras[to]}: ${plural(count, "move")}, median ${long(median)}`);
    const parts = [
      svg("path", { class: "edge", d: `M${sx},${sy} Q${cx},${cy} ${baseX},${baseY}`, "stroke-width": width }, title),
      svg("polygon", { class: "head", points: `${tipX},${tipY} ${side(1)} ${side(-1)}` }),
    ];
    // Beside its arrow, on the outside, nearer to where it begins: in the middle the labels of all diagonals would meet.
    const off = width / 2 + 10, lx = 0.36 * sx + 0.48 * cx + 0.16 * ex - (dy / length) * off * 1.6, ly = 0.36 * sy + 0.48 * cy + 0.16 * ey + (dx / length) * off;
    const label = svg("text", { class: "halo", x: lx, y: ly, "text-anchor": "middle", "dominant-baseline": "middle" }, `${count} · ${long(median)}`);
    if (n >= LABELLED) label.style.display = "none";
    picture.append(...parts);
    drawn.push({ from, to, parts, label, n });
  });
  drawn.forEach(({ label }) => picture.append(label));
  cameras.forEach((name, camera) => {
    const [x, y] = at[camera], half = halfWidth(name);
    const gone = data.flows.filter((f) => f[0] === camera).reduce((sum, f) => sum + f[2], 0);
    const come = data.flows.filter((f) => f[1] === camera).reduce((sum, f) => sum + f[2], 0);
    const node = svg("g", { class: "node", tabindex: 0, role: "button", "aria-pressed": "false", "aria-label": `${name}: ${gone} went on from here, ${come} came from elsewhere` },
      svg("rect", { x: x - half, y: y - NODE / 2, width: 2 * half, height: NODE, rx: CROWDED ? 4 : 8 }),
      svg("rect", { x: x - half + 4, y: y - NODE / 4, width: CROWDED ? 4 : 6, height: NODE / 2, rx: 2, class: "mark" }),
      svg("text", { class: CROWDED ? "tiny" : "", x: x + (CROWDED ? 3 : 5), y, "text-anchor": "middle", "dominant-baseline": "central" }, name.length > 16 ? name.slice(0, 15) + "…" : name));
    node.querySelectorAll("rect")[1].style.fill = HUES[camera % HUES.length];
    const toggle = () => focusOn(node.classList.contains("on") ? -1 : camera);
    node.addEventListener("click", toggle);
    node.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); toggle(); } });
    picture.append(node);
  });

  function focusOn(camera) {
    [...picture.querySelectorAll(".node")].forEach((node, n) => { node.classList.toggle("on", n === camera); node.setAttribute("aria-pressed", String(n === camera)); });
    for (const { from, to, parts, label, n } of drawn) {
      const mine = camera < 0 || from === camera || to === camera;
      for (const part of parts) part.classList.toggle("dim", !mine);
      label.style.display = (camera < 0 ? n < LABELLED : mine) ? "" : "none";
    }
    fillFlows(camera);
  }
  const all = data.flows.filter(([a, b]) => a !== b).length;
  const note = all > arrows.length ? `The ${arrows.length} busiest of ${all} ways. ` : "";
  byId("graph").replaceChildren(picture, el("p", { class: "sub" }, all ? note + "Moves and median time between views. Choose a camera to see its own." : "Nobody went from one camera to another."));
  fillFlows(-1);
}

const NODE = CROWDED ? 20 : 34;
const halfWidth = (name) => (CROWDED ? 8 + 2.9 * Math.min(name.length, 16) : 16 + 4.6 * Math.min(name.length, 16));

/** Where the line from a camera's middle towards a point leaves its box. */
function rim([x, y], [px, py], name) {
  const dx = px - x, dy = py - y, half = halfWidth(name) + 3;
  const t = Math.min(half / Math.max(Math.abs(dx), 1e-6), (NODE / 2 + 3) / Math.max(Math.abs(dy), 1e-6), 0.5);
  return [x + dx * t, y + dy * t];
}

let flowOrder = { column: 2, down: true };
let flowsShown = 12;

function fillFlows(camera) {
  const mine = data.flows.filter(([a, b]) => camera < 0 || a === camera || b === camera);
  const value = (flow) => (flowOrder.column < 2 ? cameras[flow[flowOrder.column]] : flow[flowOrder.column]);
  mine.sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) * (flowOrder.down ? -1 : 1));
  const heads = [["from", 0], ["to", 1], ["moves", 2], ["median", 4], ["half of them", 3], ["sure", 6]];
  const rows = mine.slice(0, flowsShown).map(([a, b, count, lower, median, upper, sure]) =>
    [cameras[a], cameras[b], count.toLocaleString("en"), long(median), `${long(lower)} – ${long(upper)}`, percent(sure)]);
  const made = table(heads.map(([name]) => name), rows, 4);
  made.querySelectorAll("th").forEach((head, n) => {
    const [name, column] = heads[n];
    head.setAttribute("aria-sort", column === flowOrder.column ? (flowOrder.down ? "descending" : "ascending") : "none");
    head.replaceChildren(el("button", { onclick: () => { flowOrder = { column, down: column === flowOrder.column ? !flowOrder.down : column > 1 }; fillFlows(camera); } }, name));
  });
  const more = mine.length > flowsShown ? el("p", { class: "sub" }, el("button", { onclick: () => { flowsShown = Infinity; fillFlows(camera); } }, `all ${mine.length}`)) : null;
  byId("flows").replaceChildren(mine.length ? made : "", ...(more ? [more] : []));
}

// Travel times

function histogram(entry) {
  const wide = 330, tall = 150, left = 34, bottom = 24, top = 8;
  const x = (s) => left + ((s - entry.begin_s) / (entry.end_s - entry.begin_s)) * (wide - left - 6);
  const peak = Math.max(...entry.bars.map((bar) => bar[1]), ...(entry.curve || [0]), 1e-9);
  const y = (share) => tall - bottom - (share / peak) * (tall - bottom - top);
  const picture = svg("svg", { viewBox: `0 0 ${wide} ${tall}`, role: "img", "aria-label": `Travel time from ${cameras[entry.from]} to ${cameras[entry.to]}: median ${long(entry.median_s)}, evidence ${entry.evidence}` });
  for (const [bin, share] of entry.bars) {
    const a = x(entry.begin_s + bin * entry.bin_s), b = x(entry.begin_s + (bin + 1) * entry.bin_s);
    picture.append(svg("rect", { class: "bars", x: a, y: y(share), width: Math.max(b - a - 0.4, 0.6), height: Math.max(tall - bottom - y(share), 0) }));
  }
  if (entry.curve) {
    const points = entry.curve.map((share, n) => `${x(entry.begin_s + n * entry.curve_step_s + entry.bin_s / 2).toFixed(1)},${y(share).toFixed(1)}`);
    picture.append(svg("polyline", { class: "curve", points: points.join(" ") }));
  }
  if (entry.median_s !== null) picture.append(svg("line", { class: "middle", x1: x(entry.median_s), x2: x(entry.median_s), y1: top, y2: tall - bottom }));
  picture.append(svg("line", { class: "axis", x1: left, x2: wide - 6, y1: tall - bottom, y2: tall - bottom }));
  const span = entry.end_s - entry.begin_s;
  const step = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600].find((s) => span / s <= 6) || 3600 * Math.ceil(span / 3600 / 6);
  for (let s = Math.ceil(entry.begin_s / step) * step; s <= entry.end_s; s += step) {
    picture.append(svg("text", { class: "soft", x: x(s), y: tall - 8, "text-anchor": "middle" }, span > 1200 ? s / 60 + " min" : s + " s"));
  }
  picture.append(svg("text", { class: "soft", x: left - 4, y: y(peak) + 8, "text-anchor": "end" }, (100 * peak).toPrecision(2) + "%"));
  const flow = data.flows.find(([a, b]) => a === entry.from && b === entry.to);
  const told = [`evidence ${entry.evidence.toLocaleString("en")}`, `median ${long(entry.median_s)}`, flow ? `${plural(flow[2], "move")} in this run` : null, entry.trust < 1 ? "not trusted now: it changed" : null];
  return el("figure", {}, el("h3", {}, `${cameras[entry.from]} → ${cameras[entry.to]}`), picture, el("figcaption", {}, told.filter(Boolean).join(" · ")));
}

function drawTimes() {
  const learnt = data.tables.some((entry) => entry.curve);
  byId("timesnote").textContent = !data.tables.length ? "Nothing is known yet about how long people take."
    : learnt ? "Bars: what the site has learnt, share per second (older days count less). Line: the Parzen estimate the matcher uses. Dashed: median."
      : "Bars: this run's moves, share per second. Dashed: median. The tables' own curve is missing: tables_end.json is not here.";
  const place = byId("histograms");
  let shown = 0;
  const add = (count) => { for (const entry of data.tables.slice(shown, shown + count)) place.append(histogram(entry)); shown += count; };
  add(12);
  if (data.tables.length > 12) {
    const button = el("button", { onclick: () => { button.remove(); add(data.tables.length); } }, `all ${data.tables.length} pairs`);
    place.after(el("p", { class: "screen" }, button));
  }
}
