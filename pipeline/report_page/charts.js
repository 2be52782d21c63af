"use strict";
// Cameras over time, how sure the ids are, health and settings.

function drawCameras() {
  const { bin_s, cameras: rows } = data.over_time;
  const most = Math.max(1e-9, ...rows.flatMap((row) => row.present));
  const longest = Math.max(1e-9, ...rows.flatMap((row) => row.dwell.filter((value) => value !== null)));
  byId("camerasnote").textContent = `Bars: people in view, mean over ${long(bin_s)}, all cameras on one scale (up to ${most.toFixed(most < 10 ? 1 : 0)}). Dots: median length of the stays that began then (up to ${long(longest)}).`;
  const wide = 800, tall = 64, end = rows.length ? rows[0].present.length * bin_s : 1;
  const lines = rows.map((row, camera) => {
    const step = wide / row.present.length;
    const outline = row.present.map((value, n) => `H${(n * step).toFixed(1)}V${(tall - (value / most) * (tall - 4)).toFixed(1)}H${((n + 1) * step).toFixed(1)}`).join("");
    const picture = svg("svg", { viewBox: `0 0 ${wide} ${tall}`, preserveAspectRatio: "none", role: "img", "aria-label": `${cameras[camera]}: at most ${row.most} people at once` },
      svg("path", { class: "bars", d: `M0,${tall}${outline}V${tall}Z` }));
    const dots = row.dwell.map((value, n) => (value === null ? null : [((n + 0.5) * step).toFixed(1), (tall - 2 - (value / longest) * (tall - 6)).toFixed(1)]));
    const path = dots.map((dot) => (dot ? `M${dot}h.01` : "")).join("");
    picture.append(svg("path", { class: "dwell", d: path || "M0,0", "vector-effect": "non-scaling-stroke", "stroke-linecap": "round" }));
    picture.style.height = "64px";
    let [count, mine] = [0, new Set()];
    for (let n = 0; n < stays.camera.length; n++) if (stays.camera[n] === camera) { count++; mine.add(stays.person[n]); }
    return el("div", { class: "camera" },
      el("div", {}, el("h3", {}, cameras[camera]), el("div", { class: "sub" }, `${plural(mine.size, "person")} · ${plural(count, "stay")}`, el("br"), `median ${long(row.median_dwell_s)} · most ${row.most} at once`)),
      picture);
  });
  const axis = el("div", { class: "camera" }, el("div", {}), el("div", { class: "bar sub" }, el("span", { class: "grow" }, clock(0, { date: true })), el("span", {}, clock(end * 100))));
  byId("overtime").replaceChildren(...lines, axis);
}

function drawSure() {
  const place = byId("calibration"), wide = 330, tall = 170, left = 34, bottom = 30;
  const counts = new Array(10).fill(0);
  for (const sure of stays.sure) counts[Math.min(9, Math.floor(sure / 100))]++;
  const most = Math.max(1, ...counts), picture = svg("svg", { viewBox: `0 0 ${wide} ${tall}`, role: "img", "aria-label": "How probable the ids of the stays are" });
  counts.forEach((count, n) => {
    const step = (wide - left - 6) / 10, high = (count / most) * (tall - bottom - 18);
    picture.append(svg("rect", { class: "bars", x: left + n * step + 1, y: tall - bottom - high, width: step - 2, height: high }));
    if (count) picture.append(svg("text", { x: left + (n + 0.5) * step, y: tall - bottom - high - 4, "text-anchor": "middle" }, count.toLocaleString("en")));
    if (n % 2 === 0) picture.append(svg("text", { class: "soft", x: left + n * step, y: tall - 12, "text-anchor": "middle" }, `${10 * n} %`));
  });
  picture.append(svg("text", { class: "soft", x: wide - 6, y: tall - 12, "text-anchor": "end" }, "100 %"));
  place.append(el("figure", {}, el("h3", {}, "Probability of the ids"), picture, el("figcaption", {}, "Stays by the probability that their id is right, as the matcher sees it.")));
  const { configured, found } = data.calibration;
  if (configured) {
    const curve = svg("svg", { viewBox: `0 0 ${wide} ${tall}`, role: "img", "aria-label": "From cosine to probability" });
    const x = (cosine) => left + ((cosine + 0.2) / 1.2) * (wide - left - 6), y = (p) => tall - bottom - p * (tall - bottom - 10);
    const points = [];
    for (let c = -0.2; c <= 1.0001; c += 0.01) points.push(`${x(c).toFixed(1)},${y(1 / (1 + Math.exp(-(configured.g0 * c + configured.b0)))).toFixed(1)}`);
    for (const p of [0, 0.5, 1]) curve.append(svg("line", { class: "axis", x1: left, x2: wide - 6, y1: y(p), y2: y(p) }), svg("text", { class: "soft", x: left - 4, y: y(p) + 4, "text-anchor": "end" }, String(p)));
    for (const c of [0, 0.2, 0.4, 0.6, 0.8, 1]) curve.append(svg("text", { class: "soft", x: x(c), y: tall - 12, "text-anchor": c === 1 ? "end" : "middle" }, c.toFixed(1)));
    curve.append(svg("polyline", { class: "curve", points: points.join(" ") }));
    place.append(el("figure", {}, el("h3", {}, "What a cosine says"), curve, el("figcaption", {}, `Probability of one person before delays and priors: log-odds = ${configured.g0} × cosine ${configured.b0 < 0 ? "−" : "+"} ${Math.abs(configured.b0)}.`)));
  }
  const rows = [["before", found?.before], ["after", found?.after], ["with labels", found?.labelled]].filter(([, row]) => row?.by_time);
  if (rows.length) place.append(reliability(rows));
  else place.append(el("figure", {}, el("h3", {}, "Reliability"), el("p", { class: "sub" }, "Not measured for this run. identrix calibrate RUN --out RUN fits it without labels; write the report again after it.")));
}

function reliability(rows) {
  const side = 250, left = 34, bottom = 26, dashes = ["", "7 4", "2 3"];
  const x = (p) => left + p * (side - left - 8), y = (p) => side - bottom - p * (side - bottom - 8);
  const picture = svg("svg", { viewBox: `0 0 ${side} ${side}`, role: "img", "aria-label": "Predicted probability against observed share" }, svg("line", { class: "middle", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }));
  for (const p of [0, 0.5, 1]) picture.append(svg("text", { class: "soft", x: x(p), y: side - 8, "text-anchor": "middle" }, String(p)), svg("text", { class: "soft", x: left - 4, y: y(p) + 4, "text-anchor": "end" }, String(p)));
  rows.forEach(([name, row], n) => {
    const { predicted, observed, weight } = row.by_time;
    const points = predicted.map((p, k) => (weight[k] > 0 && p !== null ? `${x(p).toFixed(1)},${y(observed[k]).toFixed(1)}` : null)).filter(Boolean);
    const line = svg("polyline", { class: "curve", points: points.join(" "), "stroke-dasharray": dashes[n % 3] });
    line.style.stroke = HUES[[6, 0, 2][n % 3]];
    picture.append(line);
  });
  return el("figure", {}, el("h3", {}, "Reliability"), picture, el("figcaption", {}, "Observed share over predicted probability. " + rows.map(([name, row], n) => `${["solid", "dashed", "dotted"][n]}: ${name}, error ${row.by_time.error.toFixed(3)}`).join("; ") + "."));
}

const HEALTH = { frames_read: "frames", frames_skipped: "skipped", frames_dropped: "dropped", corrupt_packets: "corrupt packets", size_changes: "size changes", fps: "fps" };

function drawHealth() {
  const extra = new Set(Object.values(data.health).flatMap((state) => Object.entries(state || {}).filter(([key, value]) => typeof value === "number" && !(key in HEALTH) && !key.endsWith("_s")).map(([key]) => key)));
  const keys = [...Object.keys(HEALTH), ...extra];
  const rows = cameras.map((name) => {
    const state = data.health[name] || {}, trouble = data.failed[name] || state.error || state.warning || "";
    const span = state.first_s !== null && state.first_s !== undefined && state.last_s ? long(state.last_s - state.first_s) : "–";
    return [name, el("span", { class: trouble ? "bad" : "" }, trouble || "well"), ...keys.map((key) => (state[key] ?? "–").toLocaleString("en")), span];
  });
  byId("healthtable").replaceChildren(table(["camera", "state", ...keys.map((key) => HEALTH[key] || key.replaceAll("_", " ")), "covers"], rows, keys.length + 1));
  const lines = [];
  const degraded = data.counters.degraded_s || 0;
  lines.push(degraded ? `Redis was away for ${long(degraded)}; the counts were kept on disk and merged.` : "Redis was there all the time.");
  if (data.facts.interrupted) lines.push("The run was stopped before its sources ended.");
  if (data.counters.rows_without_id) lines.push(`${data.counters.rows_without_id} boxes belong to stays that never got an id.`);
  for (const name of cameras) {
    const live = data.health[name]?.live;
    if (!live) continue;
    const away = Object.entries(live.seconds || {}).filter(([state, seconds]) => state !== "live" && seconds >= 0.5).map(([state, seconds]) => `${state} for ${long(seconds)}`);
    const told = [plural(live.reconnects || 0, "reconnect"), ...away, live.jumps ? plural(live.jumps, "jump") + " of its clock" : null, live.late ? plural(live.late, "late frame") : null, live.reason ? `lost last: ${live.reason}` : null];
    lines.push(`${name}, live: ${told.filter(Boolean).join(", ")}.`);
  }
  for (const alarm of data.alarms) lines.push(`${clock(100 * (alarm.time_s - data.zero_s))}: travel times from ${alarm.pair?.[0]} to ${alarm.pair?.[1]} ${alarm.raised ? "changed; they are not trusted until they hold again" : "hold again"}.`);
  if (!data.alarms.length) lines.push("No drift alarm: travel times between cameras stayed as learnt.");
  if (data.speed.cpu_ms_per_camera_frame) lines.push(`${data.speed.cpu_ms_per_camera_frame.toFixed(1)} ms of CPU per camera frame, ${long(data.speed.total_wall_s)} in all.`);
  byId("alarms").replaceChildren(el("ul", {}, ...lines.map((line) => el("li", {}, line))));
}

function drawSettings() {
  const pairs = (value) => el("dl", {}, ...Object.entries(value).flatMap(([key, item]) => [el("dt", {}, key), el("dd", {}, item && typeof item === "object" ? (Object.values(item).some((v) => v && typeof v === "object") || Object.keys(item).length > 4 ? pairs(item) : Object.entries(item).map(([k, v]) => (Array.isArray(item) ? v : `${k}: ${v}`)).join(", ")) : String(item))]));
  const groups = [["program", { version: data.facts.version ?? "not said", device: data.facts.device ?? "not said", "tables version": data.facts.table_version ?? "not said" }]];
  if (Object.keys(data.weights).length) groups.push(["weights", data.weights]);
  const plain = Object.fromEntries(Object.entries(data.settings).filter(([, value]) => !value || typeof value !== "object"));
  if (Object.keys(plain).length) groups.push(["general", plain]);
  for (const [name, value] of Object.entries(data.settings)) if (value && typeof value === "object") groups.push([name, value]);
  byId("settingslist").replaceChildren(...groups.map(([name, value], n) => el("details", n ? {} : { open: "" }, el("summary", {}, name), pairs(value))));
}
