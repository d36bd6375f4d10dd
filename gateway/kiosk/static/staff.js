// The staff page: sign in by person and PIN, redeem, put orders behind doors. Works in any phone's browser.
import { drawAdmission } from "./admission.js";
import { follow } from "./live.js";
import { ask, newId } from "./present.js";
import { Camera, hasCamera, readPicture } from "./read.js";
import { Members } from "./members.js";
import { drawProblem, drawResult } from "./result.js";
import { Devices, wantedCode } from "./devices.js";
import { Witness } from "./witness.js";
import { el, icon, t } from "./words.js";

const $ = (id) => document.getElementById(id);
const camera = new Camera();
const witness = new Witness("staff");
const views = ["sign-in", "pin", "home", "devices", "member", "camera", "typing", "working", "result"];
const LISTS = { paid: ["paid", "staging"], staged: ["staged", "collecting"], collected: ["collected"] };
let person = null, redraw = null, waiting = null, staging = null;
const stageKeys = new Map(); // order to the key of its staging, so that tapping again after silence asks for the same
let lastOrders = [];

function show(view) {
  if (view !== "camera") camera.stop($("video"));
  for (const name of views) $(name).hidden = name !== view;
  document.body.dataset.screen = view;
  document.body.dataset.look = view === "result" ? $("result").firstElementChild?.classList[1] ?? "" : "";
  document.querySelector({ camera: "#camera h1", typing: "#code", member: "#phone", pin: "#pin-code", working: "#working h1", result: "#result h1" }[view] ?? "#none")?.focus();
  scrollTo(0, 0);
}

const devices = new Devices($("devices-waiting"), $("devices-paired"), (refused) => {
  if (refused.status === 401) return leave();
  notice(document.documentElement.lang === "en" ? refused.refused.message.en : refused.refused.message.zh);
});

const members = new Members(() => leave());

const home = () => {
  devices.stop();
  members.clear();
  redraw = null;
  staging = null;
  $("code").value = "";
  $("file").value = "";
  $("result").replaceChildren();
  $("notice").hidden = true;
  show(person ? "home" : "sign-in");
  if (person) loadOrders();
};

// ------------------------------------------------------------ signing in

function choose(ref, name) {
  $("pin-form").dataset.ref = ref;
  $("pin-name").textContent = name;
  $("pin-code").value = "";
  $("pin-wrong").textContent = "";
  show("pin");
}

for (const button of document.querySelectorAll(".people button"))
  button.addEventListener("click", () => choose(button.dataset.ref, button.dataset.name));

for (const key of ["1", "2", "3", "4", "5", "6", "7", "8", "9", "", "0", "⌫"]) {
  const button = key ? el("button", { type: "button", "data-key": key, "aria-label": key === "⌫" ? t("read.delete") : null }, key) : el("span");
  $("pin-keys").append(button);
}
$("pin-keys").addEventListener("click", (event) => {
  const key = event.target.dataset.key;
  if (key) $("pin-code").value = key === "⌫" ? $("pin-code").value.slice(0, -1) : $("pin-code").value + key;
});

$("pin-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const pin = $("pin-code").value;
  $("pin-code").value = "";
  if (!pin) return;
  const outcome = await ask("/v1/staff/sign-in", { staff_ref: $("pin-form").dataset.ref, pin });
  if (outcome.answer) return enter(outcome.answer);
  const words = outcome.refused?.message;
  $("pin-wrong").textContent = words ? (document.documentElement.lang === "en" ? words.en : words.zh) : t("staff.silent");
});

function enter(found) {
  person = found;
  stream.reopen(); // this phone may have got its key just now
  $("who").textContent = found.name;
  delete $("who").dataset.t;
  $("to-devices").hidden = !found.roles.includes("manager");
  home();
  members.start(found.roles.includes("manager"));
  if (wantedCode() && !$("to-devices").hidden) showDevices();
}

$("sign-out").addEventListener("click", async () => {
  await ask("/v1/staff/sign-out", {});
  leave();
});

function leave() {
  location.replace(location.pathname + location.search); // a fresh page keeps nothing of the last person
}

// ------------------------------------------------------------ orders

async function loadOrders() {
  try {
    const response = await fetch("/v1/staff/orders", { signal: AbortSignal.timeout(8000) });
    if (response.status === 401 && person) return leave();
    if (response.ok) drawOrders(await response.json());
  } catch {
    // The banner says that core is away; the list comes back with it.
  }
}

function drawOrders(orders) {
  lastOrders = orders;
  for (const [name, states] of Object.entries(LISTS)) {
    const found = orders.filter((order) => states.includes(order.state));
    $(`count-${name}`).textContent = found.length;
    const rows = found.map((order) => el("li", {}, name === "paid" ? orderButton(order) : orderRow(order)));
    $(`orders-${name}`).replaceChildren(...(rows.length ? rows : [el("li", { class: "empty" }, t("staff.none"))]));
  }
  if (staging) followStaging(orders);
}

const STATES = { staging: "staff.state.staging", collecting: "staff.state.collecting" };

function orderParts(order) {
  const state = STATES[order.state] ? el("span", { class: "state" }, t(STATES[order.state])) : null;
  return [
    el("span", { class: "number" }, order.number),
    el("span", { class: "lines" }, el("b", {}, order.customer), el("small", {}, order.lines.join("、"))),
    ...[state].filter(Boolean),
    order.compartment === null ? icon("door") : el("span", { class: "door" }, el("small", {}, t("result.door")), String(order.compartment)),
  ];
}

function orderRow(order) {
  return el("div", { class: "order" }, ...orderParts(order));
}

function orderButton(order) {
  const button = el("button", { type: "button", class: "order", "data-order": order.order_id }, ...orderParts(order));
  button.addEventListener("click", () => stage(order));
  return button;
}

async function stage(order) {
  if (!stageKeys.has(order.order_id)) stageKeys.set(order.order_id, newId());
  const body = { order_id: order.order_id, key: stageKeys.get(order.order_id) };
  show("working");
  const outcome = await ask("/v1/staff/stage", body);
  if (!outcome.silent) stageKeys.delete(order.order_id);
  if (outcome.answer?.decision === "staging") staging = order.order_id;
  conclude(outcome, () => stage(order));
  loadOrders();
}

// The door that was opened has been closed again, sensed: say so on the same screen.
function followStaging(orders) {
  const order = orders.find((one) => one.order_id === staging);
  if (order?.state !== "staged" || document.body.dataset.screen !== "result") return;
  staging = null;
  const text = { zh: t("staff.staged"), en: t("staff.staged") };
  draw(() => drawResult({ decision: "staged", message: text, order_number: order.number, compartment: order.compartment, before: null }, [doneButton()]));
}

// ------------------------------------------------------------ redeeming

async function submit(found, source, id = newId()) {
  $("code").value = "";
  show("working");
  const body = { code: found.code, presentation_id: id, symbology_id: found.symbology_id ?? "]X0", source };
  const outcome = await ask("/v1/staff/redeem", body);
  conclude(outcome, () => submit(found, source, id));
  if (outcome.answer?.decision === "recognised") {
    show("member");
    members.lookUp({ code: found.code, symbology_id: body.symbology_id });
  }
}

function conclude(outcome, retry) {
  if (outcome.status === 401) return leave();
  if (outcome.answer) return draw(() => drawResult(outcome.answer, [doneButton()]));
  if (outcome.refused) return draw(() => drawProblem(outcome.refused, [doneButton()]));
  const words = () => ({ message: { zh: t("staff.silent"), en: t("staff.silent") }, next_step: { zh: t("staff.silent.next"), en: t("staff.silent.next") } });
  draw(() => drawProblem(words(), [button("staff.again", "main", retry), doneButton()]));
}

function draw(make) {
  redraw = make;
  $("result").replaceChildren(make());
  show("result");
}

const doneButton = () => button("staff.next", "main", home);

function button(key, look, action) {
  const made = el("button", { type: "button", class: look }, t(key));
  made.addEventListener("click", action);
  return made;
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = false;
  setTimeout(() => ($("notice").hidden = true), 6000);
}

function showDevices() {
  show("devices");
  devices.start();
}

$("to-devices").addEventListener("click", showDevices);
$("to-member").addEventListener("click", () => show("member"));
$("by-typing").addEventListener("click", () => show("typing"));
$("by-picture").addEventListener("click", () => $("file").click());
$("by-camera").addEventListener("click", async () => {
  show("camera");
  try {
    await camera.start($("video"), (found) => submit(found, "camera"));
  } catch {
    home();
    notice(t("read.no_camera"));
  }
});
$("file").addEventListener("change", async () => {
  const [picture] = $("file").files;
  if (!picture) return;
  show("working");
  const found = await readPicture(picture);
  if (found) return submit(found, "picture");
  home();
  notice(t("read.nothing"));
});
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const code = $("code").value.trim();
  if (code) submit({ code }, "typed");
});
$("code").addEventListener("input", () => {
  const bare = $("code").value.replace(/[\s-]/g, "").toUpperCase();
  if (/^[0-9A-Z]{0,14}$/.test(bare)) $("code").value = bare.replace(/(.{4})(?=.)/g, "$1-");
});
for (const back of document.querySelectorAll(".back")) back.addEventListener("click", home);

document.addEventListener("language", () => {
  if (person) drawOrders(lastOrders);
  if (redraw && document.body.dataset.screen === "result") $("result").replaceChildren(redraw());
});

// ------------------------------------------------------------ core

function onView(view) {
  $("offline").hidden = view.line.up;
  drawAdmission($("unproven"), view.admission, view.now_us);
  witness.heed(view.mark, view.admission.admitted);
  if (!person) return;
  clearTimeout(waiting);
  waiting = setTimeout(loadOrders, 150);
}

// Without a secure origin the browser gives no camera; the phone's own camera app still does, through the picture button.
if (!hasCamera()) {
  $("by-camera").hidden = true;
  $("no-camera").hidden = false;
}
const stream = follow("/v1/store/events", onView, (lost) => ($("lost").hidden = !lost), () => witness.present());
fetch("/v1/staff/me").then(async (response) => response.ok && enter(await response.json()), () => {});
