// The shop at a glance: one live picture beside numbers.
import { drawAdmission } from "./admission.js";
import { Floor, doorLook, svg } from "./floor.js";
import { follow } from "./live.js";
import { clockTime, el, pick, t } from "./words.js";

const $ = (id) => document.getElementById(id);
const stations = JSON.parse($("stations").textContent);
const floor = new Floor($("floor"), stations);
const COUNTS = [["visits", "glance.count.visits"], ["redemptions", "glance.count.redemptions"], ["refusals", "glance.count.refusals"], ["collections", "glance.count.collections"]];
const MOST_NEWS = 5;
let view = null, heardAt = 0, news = [];

function drawLine(line) {
  const late = line.up ? "" : "down";
  $("road").replaceChildren(
    svg("path", { class: `road ${late}`, d: "M70 38H250" }),
    ...(line.up ? [0, 1, 2].map((i) => svg("circle", { class: `packet p${i}`, r: 5, cx: 0, cy: 38 })) : [svg("path", { class: "cut", d: "M150 26l20 24M170 26l-20 24" })]),
    end(38, t("glance.shop"), "M-13 -4l3 -9h20l3 9M-10 -3v14h20v-14M-3 11v-8h6v8"), end(282, t("glance.hq"), "M-9 12v-25h18v25zM-4 -7h0M4 -7h0M-4 0h0M4 0h0M-2 12v-5h4v5"),
  );
  $("line-words").className = late;
  const state = line.up ? t("glance.line.up") : t("glance.line.down").replace("{since}", clockTime(line.since_us));
  const waiting = line.waiting ? t("glance.line.waiting").replace("{n}", line.waiting.toLocaleString("en")) : t("glance.line.none");
  const acked = line.acked_us ? t("glance.line.acked").replace("{at}", clockTime(line.acked_us, true)) : "";
  $("line-words").replaceChildren(el("b", {}, state), el("span", {}, waiting), el("small", {}, line.up ? acked : t("glance.line.carries")));
}

function end(x, name, path) {
  const group = svg("g", { transform: `translate(${x} 34)`, class: "end" }, svg("circle", { r: 30 }), svg("path", { d: path }));
  const label = svg("text", { y: 24, "text-anchor": "middle" }, name);
  group.append(label);
  return group;
}

function drawCounts(counts) {
  if (!$("counts").childElementCount)
    for (const [name, key] of COUNTS) $("counts").append(el("div", {}, el("dt", { "data-t": key }, t(key)), el("dd", { id: `count-${name}` }, "0")));
  for (const [name] of COUNTS) {
    const text = (counts[name] ?? 0).toLocaleString("en");
    if ($(`count-${name}`).textContent !== text) $(`count-${name}`).textContent = text;
  }
}

const UNIT_STATES = { working: "glance.unit.up", degraded: "glance.unit.degraded", device_silent: "glance.unit.silent", process_gone: "glance.unit.down" };
const UNIT_LOOKS = { working: "up", degraded: "degraded" };
const UNIT_KINDS = { ble: "glance.unit.ble", scanner: "glance.unit.scanner", locker: "glance.unit.locker", bridge: "glance.unit.bridge" };

function drawUnits(units) {
  const rows = units.map((unit) => {
    const state = unit.state;
    const [kind, name] = unit.unit.split("@");
    const label = UNIT_KINDS[kind] ? t(UNIT_KINDS[kind]) : kind;
    return el("li", { class: UNIT_LOOKS[state] ?? "down", title: [unit.unit, unit.detail].filter(Boolean).join(": ") }, el("i"), el("span", {}, label, name ? el("small", {}, ` ${name}`) : ""), el("b", {}, t(UNIT_STATES[state] ?? "glance.unit.down")));
  });
  $("units").replaceChildren(...rows);
}

// What just happened, told by comparing two views; nothing older than this page is claimed.
function learn(before, now) {
  for (const screen of now.screens) {
    const old = before.screens.find((one) => one.station === screen.station);
    if (screen.answer && screen.state !== "pending" && screen.number !== old?.number) tell(screen.answer.decision === "refused" ? "bad" : "good", () => `${stationName(screen.station)} · ${pick(screen.answer.message)} ${pick(screen.answer.title)}`);
  }
  for (const one of now.compartments) {
    const old = before.compartments.find((door) => door.bank === one.bank && door.compartment === one.compartment);
    const look = doorLook(one);
    if (old && doorLook(old) !== look) tell(look === "jammed" ? "bad" : "door", () => `${t("wall.door").replace("{n}", one.compartment)} ${t(`wall.${look}`)}`);
  }
  if (before.line.up !== now.line.up) tell(now.line.up ? "good" : "bad", () => t(now.line.up ? "glance.line.up" : "glance.line.cut"));
}

const stationName = (name) => {
  const found = stations.find((station) => station.name === name);
  return found ? (document.documentElement.lang === "en" ? found.en : found.zh) : name;
};

function tell(look, words) {
  news = [{ look, words, at: view.now_us }, ...news].slice(0, MOST_NEWS);
}

function drawNews() {
  const rows = news.map(({ look, words, at }) => el("li", { class: look }, el("time", {}, clockTime(at, true)), el("span", {}, words())));
  $("news").replaceChildren(...(rows.length ? rows : [el("li", { class: "empty" }, t("glance.news.none"))]));
}

const TRUST = ["glance.time.synced", "glance.time.holdover", "glance.time.untrusted"];

function tick() {
  if (!view) return;
  const us = view.now_us + (performance.now() - heardAt) * 1000;
  $("clock").replaceChildren(clockTime(us, true), el("small", { class: `trust${view.time_trust}` }, t(TRUST[view.time_trust])));
}

function draw() {
  drawAdmission($("unproven"), view.admission, view.now_us);
  floor.draw(view);
  drawLine(view.line);
  drawCounts(view.counts);
  drawUnits(view.units);
  drawNews();
  tick();
}

function onView(now) {
  const before = view;
  view = now;
  heardAt = performance.now();
  if (before) learn(before, now);
  draw();
}

document.addEventListener("language", () => view && draw());
setInterval(tick, 1000);
follow("/v1/store/events", onView, (lost) => {
  $("lost").hidden = !lost;
  document.body.classList.toggle("stale", lost);
});
