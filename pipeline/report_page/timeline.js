"use strict";
// Who was where: a row per person, drawn on one canvas for what is on screen only, so that any number of rows scrolls.

const COARSE = matchMedia("(pointer: coarse)").matches;
const ROW = COARSE ? 30 : 22;
const AXIS = 22;
const GUTTER = 58;

const view = { low: 0, high: Math.max(data.end, 100), rows: [], chosen: -1 };
const whole = { low: 0, high: view.high };
const box = byId("timeline");
const paper = box.querySelector("canvas");
let seen = { width: 300, height: 300 };

function drawRows(pen, width, height, rows, from, low, high) {
  const ink = theme("ink"), soft = theme("soft"), line = theme("line"), ground = theme("card"), shade = theme("shade");
  const scale = (width - GUTTER - 8) / (high - low);
  const x = (t) => GUTTER + (t - low) * scale;
  pen.fillStyle = ground;
  pen.fillRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const marks = ticks(low, high, Math.max(2, (width - GUTTER) / 90));
  pen.strokeStyle = line;
  for (const t of marks.found) { pen.beginPath(); pen.moveTo(x(t), AXIS); pen.lineTo(x(t), height); pen.stroke(); }
  const start = Math.floor(from / ROW), stop = Math.min(rows.length, Math.ceil((from + height) / ROW));
  for (let r = start; r < stop; r++) {
    const p = rows[r], top = AXIS + r * ROW - from, middle = top + ROW / 2;
    if (r === view.chosen) { pen.fillStyle = shade; pen.fillRect(0, top, width, ROW); }
    pen.save();
    pen.beginPath();
    pen.rect(GUTTER, Math.max(top, AXIS), width - GUTTER, ROW);
    pen.clip();
    const whole = summary[p];
    pen.fillStyle = line;
    pen.fillRect(x(whole.begin), middle - 0.5, x(whole.end) - x(whole.begin), 1);
    let filled = -1;
    for (let n = first[p]; n < first[p + 1]; n++) {
      const a = x(stays.entered[n]), b = Math.max(x(stays.entered[n] + stays.dwell[n]), a + 2);
      if (b < GUTTER || a > width || (b - a <= 2 && Math.floor(a) === filled)) continue;
      filled = b - a <= 2 ? Math.floor(a) : -1;
      pen.fillStyle = fillOf(pen, stays.camera[n]);
      pen.fillRect(a, top + 3, b - a, ROW - 6);
      const name = cameras[stays.camera[n]];
      const left = Math.max(a, GUTTER), room = Math.min(b, width) - left;
      if (room > 24) {
        const text = fitting(pen, name, room - 8);
        if (text) {
          const wide = pen.measureText(text).width;
          pen.fillStyle = "rgba(0,0,0,.62)";
          pen.fillRect(left + 2, middle - 7, wide + 4, 14);
          pen.fillStyle = "#fff";
          pen.fillText(text, left + 4, middle + 0.5);
        }
      }
    }
    pen.restore();
    pen.fillStyle = colourOf(p);
    pen.fillRect(2, top + 4, 5, ROW - 8);
    pen.fillStyle = ink;
    pen.fillText("P" + persons[p], 11, middle + 0.5);
  }
  pen.fillStyle = ground;
  pen.fillRect(0, 0, width, AXIS);
  pen.fillStyle = soft;
  let free = 0;
  for (const t of marks.found) {
    const text = clock(t, { tenths: marks.step < 100 }), wide = pen.measureText(text).width;
    const left = Math.min(Math.max(x(t) - wide / 2, 2), width - wide - 2);
    if (left > free) { pen.fillText(text, left, AXIS / 2); free = left + wide + 8; }
  }
  pen.strokeStyle = line;
  pen.beginPath();
  pen.moveTo(0, AXIS - 0.5);
  pen.lineTo(width, AXIS - 0.5);
  pen.stroke();
}

const widths = new Map();
/** The text, cut so that it fits; nothing when not even two letters do. */
function fitting(pen, text, room) {
  const key = text + "|" + Math.floor(room / 6);
  if (room > 400) room = 400;
  if (!widths.has(key)) {
    let cut = text;
    while (cut && pen.measureText(cut === text ? cut : cut + "…").width > room) cut = cut.slice(0, -1);
    widths.set(key, cut === text ? cut : cut.length > 1 ? cut + "…" : "");
  }
  return widths.get(key);
}

const draw = atMostOnceAFrame(() => {
  const pen = penFor(paper, seen.width, seen.height);
  drawRows(pen, seen.width, seen.height, view.rows, box.scrollTop, view.low, view.high);
  [box.dataset.from, box.dataset.to] = [clock(view.low, { tenths: true }), clock(view.high, { tenths: true })];
  drawOverview();
});

function layOut() {
  const rows = Math.max(view.rows.length, 1) * ROW + AXIS;
  const height = Math.min(rows, Math.max(200, Math.round(window.innerHeight * 0.62)));
  box.style.height = height + 2 + "px";
  byId("sizer").style.height = rows + "px";
  seen = { width: box.clientWidth, height };
  draw();
}

function show(low, high) {
  const span = Math.min(Math.max(high - low, 50), whole.high - whole.low);
  low = Math.min(Math.max(low, whole.low), whole.high - span);
  view.low = low;
  view.high = low + span;
  draw();
}

function zoom(factor, at = (view.low + view.high) / 2) {
  show(at - (at - view.low) * factor, at + (view.high - at) * factor);
}

const timeAt = (x) => view.low + ((x - GUTTER) / (seen.width - GUTTER - 8)) * (view.high - view.low);
const rowAt = (y) => Math.floor((y - AXIS + box.scrollTop) / ROW);

// The strip above: everybody in view over the whole run, and the part that is shown below.
const strip = byId("overview");
const presentAll = data.over_time.cameras.reduce((sum, camera) => camera.present.map((value, n) => value + (sum[n] || 0)), []);
const presentMost = Math.max(1e-9, ...presentAll);

function drawOverview() {
  const width = strip.clientWidth, height = 42;
  const pen = penFor(strip, width, height);
  strip.style.width = "100%";
  const scale = width / whole.high, step = data.over_time.bin_s * 100;
  pen.fillStyle = theme("bars");
  presentAll.forEach((value, n) => {
    const tall = (height - 4) * (value / presentMost);
    pen.fillRect(n * step * scale, height - tall, Math.max(step * scale - 0.5, 0.5), tall);
  });
  pen.fillStyle = theme("shade");
  pen.strokeStyle = theme("accent");
  const left = view.low * scale, wide = Math.max((view.high - view.low) * scale, 3);
  pen.fillRect(left, 0, wide, height);
  pen.strokeRect(left + 0.5, 0.5, wide - 1, height - 1);
}

strip.addEventListener("pointerdown", (event) => {
  strip.setPointerCapture(event.pointerId);
  const move = (e) => {
    const at = ((e.clientX - strip.getBoundingClientRect().left) / strip.clientWidth) * whole.high, half = (view.high - view.low) / 2;
    show(at - half, at + half);
  };
  move(event);
  strip.addEventListener("pointermove", move);
  strip.addEventListener("pointerup", () => strip.removeEventListener("pointermove", move), { once: true });
});

// Choosing

function choose(row, { scroll = true } = {}) {
  if (!view.rows.length) return;
  view.chosen = Math.min(Math.max(row, 0), view.rows.length - 1);
  const p = view.rows[view.chosen], top = view.chosen * ROW;
  if (scroll && top < box.scrollTop) box.scrollTop = top;
  if (scroll && top + ROW + AXIS > box.scrollTop + seen.height) box.scrollTop = top + ROW + AXIS - seen.height;
  byId("said").textContent = `P${persons[p]}: ${pathOf(p).slice(0, 12).join(", ")}`;
  draw();
}

box.addEventListener("keydown", (event) => {
  const span = view.high - view.low;
  const acts = {
    ArrowLeft: () => show(view.low - span / 8, view.high - span / 8),
    ArrowRight: () => show(view.low + span / 8, view.high + span / 8),
    ArrowUp: () => choose(view.chosen - 1),
    ArrowDown: () => choose(view.chosen + 1),
    PageUp: () => choose(view.chosen - Math.floor(seen.height / ROW)),
    PageDown: () => choose(view.chosen + Math.floor(seen.height / ROW)),
    Home: () => choose(0),
    End: () => choose(view.rows.length - 1),
    "+": () => zoom(0.7), "=": () => zoom(0.7), "-": () => zoom(1 / 0.7), 0: () => show(whole.low, whole.high),
    Enter: () => view.chosen >= 0 && openCard(view.rows[view.chosen]),
  };
  if (acts[event.key] && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); acts[event.key](); }
});

box.addEventListener("wheel", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) {
    event.preventDefault();
    zoom(Math.exp(event.deltaY * 0.004), timeAt(event.clientX - box.getBoundingClientRect().left));
  } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    event.preventDefault();
    const by = ((event.deltaX || event.deltaY) / seen.width) * (view.high - view.low);
    show(view.low + by, view.high + by);
  }
}, { passive: false });

const fingers = new Map();
let dragged = 0;
box.addEventListener("pointerdown", (event) => {
  const left = box.getBoundingClientRect().left;
  if (event.clientX - left > box.clientWidth) return; // the scroll bar
  fingers.set(event.pointerId, event.clientX);
  dragged = 0;
});
box.addEventListener("pointermove", (event) => {
  hover(event);
  if (!fingers.has(event.pointerId)) return;
  const before = [...fingers.values()], at = fingers.get(event.pointerId);
  fingers.set(event.pointerId, event.clientX);
  const after = [...fingers.values()];
  dragged += Math.abs(event.clientX - at);
  if (dragged > 4 && event.pointerType === "mouse") { box.setPointerCapture(event.pointerId); box.classList.add("held"); }
  if (before.length === 2) {
    const [was, is] = [before, after].map((pair) => Math.max(Math.abs(pair[0] - pair[1]), 8));
    zoom(was / is, timeAt((after[0] + after[1]) / 2 - box.getBoundingClientRect().left));
  } else {
    const by = ((at - event.clientX) / (seen.width - GUTTER)) * (view.high - view.low);
    show(view.low + by, view.high + by);
  }
});
for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
  box.addEventListener(name, (event) => { fingers.delete(event.pointerId); box.classList.remove("held"); if (name === "pointerleave") tip.hidden = true; });
}
box.addEventListener("click", (event) => {
  const row = rowAt(event.clientY - box.getBoundingClientRect().top);
  if (dragged > 4 || row < 0 || row >= view.rows.length) return;
  choose(row, { scroll: false });
  openCard(view.rows[row], stayAt(event));
});
box.addEventListener("scroll", draw);

const tip = el("div", { class: "tip", role: "status", hidden: "" });
document.body.append(tip);

function stayAt(event) {
  const frame = box.getBoundingClientRect();
  const row = rowAt(event.clientY - frame.top), t = timeAt(event.clientX - frame.left);
  if (event.clientY - frame.top < AXIS || row < 0 || row >= view.rows.length) return -1;
  const p = view.rows[row], slack = ((view.high - view.low) / seen.width) * 3;
  for (let n = first[p]; n < first[p + 1]; n++) {
    if (t >= stays.entered[n] - slack && t <= stays.entered[n] + stays.dwell[n] + slack) return n;
  }
  return -1;
}

function hover(event) {
  const n = event.pointerType === "mouse" && !event.buttons ? stayAt(event) : -1;
  tip.hidden = n < 0;
  if (n < 0) return;
  tip.textContent = `P${persons[stays.person[n]]} in ${cameras[stays.camera[n]]}, ${clock(stays.entered[n], { tenths: true })}, for ${long(stays.dwell[n] / 100)}, ${percent(stays.sure[n] / 1000)}`;
  tip.style.left = Math.min(event.clientX + 12, window.innerWidth - 240) + "px";
  tip.style.top = event.clientY + 16 + "px";
}

byId("in").addEventListener("click", () => zoom(0.6));
byId("out").addEventListener("click", () => zoom(1 / 0.6));
byId("all").addEventListener("click", () => show(whole.low, whole.high));

cameras.forEach((name, camera) => {
  const patch = el("canvas", { width: 24, height: 13 });
  const pen = patch.getContext("2d");
  pen.fillStyle = fillOf(pen, camera);
  pen.fillRect(0, 0, 24, 13);
  byId("legend").append(el("li", {}, patch, name));
});
