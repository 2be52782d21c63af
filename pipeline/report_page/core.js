"use strict";
// What every part of the page shares: the data, names, times, colours. Text enters the page as text, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const stays = data.stays;
const cameras = data.cameras;
const persons = data.persons;
const byId = (id) => document.getElementById(id);

/** An element with attributes and children (strings become text). */
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const SVG = new DOMParser().parseFromString("<svg></svg>", "text/html").querySelector("svg").namespaceURI;

/** The same for SVG. */
function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

// Stays are sorted by person, then by time: those of person p are first[p] .. first[p + 1].
const first = new Uint32Array(persons.length + 1);
for (const person of stays.person) first[person + 1]++;
for (let p = 0; p < persons.length; p++) first[p + 1] += first[p];

/** What is asked of a person again and again, once: all in hundredths of a second. */
const summary = persons.map((_, p) => {
  let [begin, end, seen, least, mask] = [Infinity, -Infinity, 0, 1000, new Set()];
  for (let n = first[p]; n < first[p + 1]; n++) {
    begin = Math.min(begin, stays.entered[n]);
    end = Math.max(end, stays.entered[n] + stays.dwell[n]);
    seen += stays.dwell[n];
    least = Math.min(least, stays.sure[n]);
    mask.add(stays.camera[n]);
  }
  return { begin, end, seen, least, cameras: mask };
});

function pathOf(p) {
  const way = [];
  for (let n = first[p]; n < first[p + 1]; n++) if (way[way.length - 1] !== stays.camera[n]) way.push(stays.camera[n]);
  return way.map((camera) => cameras[camera]);
}

const two = (value) => String(Math.floor(value)).padStart(2, "0");

/** A moment of the site's clock (hundredths from zero): UTC time of day, or hours since the clock's zero. */
function clock(hundredths, { date = false, tenths = false } = {}) {
  const seconds = data.zero_s + hundredths / 100;
  if (data.utc) {
    const text = new Date(Math.round(seconds * 1000)).toISOString();
    return (date ? text.slice(0, 10) + " " : "") + text.slice(11, tenths ? 21 : 19) + (date ? " UTC" : "");
  }
  const size = Math.abs(seconds) + 1e-6;
  const rest = two((size / 60) % 60) + ":" + two(size % 60) + (tenths ? "." + Math.floor((size * 10) % 10) : "");
  return (seconds < -1e-6 ? "-" : "") + two(size / 3600) + ":" + rest;
}

/** A length of time for people: 3.4 s, 95 s, 12 min, 2 h 05. */
function long(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const size = Math.abs(seconds);
  if (size < 10) return seconds.toFixed(1) + " s";
  if (size < 120) return Math.round(seconds) + " s";
  if (size < 5400) return Math.round(seconds / 60) + " min";
  return Math.floor(seconds / 3600) + " h " + two((size / 60) % 60);
}

const percent = (share) => (share > 0.999 && share < 1 ? ">99.9" : (100 * share).toFixed(share < 0.995 ? 0 : 1).replace(/\.0$/, "")) + " %";
const plural = (count, word) => count.toLocaleString("en") + " " + word + (count === 1 ? "" : "s");

function colourOf(p) {
  return "#" + data.colours.slice(6 * p, 6 * p + 6);
}

function chip(p) {
  const [red, green, blue] = [0, 2, 4].map((at) => parseInt(data.colours.slice(6 * p + at, 6 * p + at + 2), 16));
  const node = el("span", { class: "chip" }, "P" + persons[p]);
  node.style.background = colourOf(p);
  node.style.color = 0.299 * red + 0.587 * green + 0.114 * blue > 128 ? "#000" : "#fff";
  return node;
}

// Cameras: seven hues that colour-blind people tell apart (Okabe and Ito), then the same with stripes, dots, checks.
const HUES = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#8a8f98"];
const patterns = new Map();

function fillOf(context, camera) {
  const kind = Math.floor(camera / HUES.length) % 4;
  const hue = HUES[camera % HUES.length];
  if (!kind) return hue;
  if (!patterns.has(camera)) {
    const tile = el("canvas", { width: 8, height: 8 });
    const pen = tile.getContext("2d");
    pen.fillStyle = hue;
    pen.fillRect(0, 0, 8, 8);
    pen.fillStyle = pen.strokeStyle = "rgba(255,255,255,.75)";
    pen.lineWidth = 2;
    if (kind === 1) for (const x of [-4, 4]) { pen.beginPath(); pen.moveTo(x, 8); pen.lineTo(x + 8, 0); pen.stroke(); }
    if (kind === 2) { pen.beginPath(); pen.arc(4, 4, 1.8, 0, 7); pen.fill(); }
    if (kind === 3) { pen.fillRect(0, 0, 4, 4); pen.fillRect(4, 4, 4, 4); }
    patterns.set(camera, tile);
  }
  return context.createPattern(patterns.get(camera), "repeat");
}

/** A canvas as large as asked in CSS pixels, sharp on this screen; gives its pen. */
function penFor(canvas, width, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, 3);
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = width + "px";
    canvas.style.height = height + "px";
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

const theme = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

/** Round steps for an axis: moments from low to high in hundredths, at most `most` of them. */
function ticks(low, high, most) {
  const steps = [10, 20, 50, 100, 200, 500, 1000, 2000, 3000, 6000, 12000, 30000, 60000, 90000, 180000, 360000, 720000, 1080000, 2160000, 4320000, 8640000];
  const step = steps.find((s) => (high - low) / s <= most) || 8640000 * Math.ceil((high - low) / 8640000 / most);
  const shift = (data.zero_s * 100) % step;
  const found = [];
  for (let t = Math.ceil((low + shift) / step) * step - shift; t <= high; t += step) found.push(t);
  return { step, found };
}

/** Draw at most once a frame, however often it is asked for. */
function atMostOnceAFrame(draw) {
  let due = 0;
  return () => { if (!due) due = requestAnimationFrame(() => { due = 0; draw(); }); };
}

function table(heads, rows, numbers) {
  const kind = (n) => (n >= heads.length - numbers ? { class: "n" } : {});
  return el("table", {},
    el("thead", {}, el("tr", {}, ...heads.map((head, n) => el("th", { scope: "col", ...kind(n) }, head)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((cell, n) => el("td", kind(n), cell instanceof Node ? cell : String(cell)))))));
}
