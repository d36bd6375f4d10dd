// The kiosk of one station. Core's screen is the truth; this page shows it, and offers ways to present a code.
import { drawAdmission } from "./admission.js";
import { isPrivate } from "./balance.js";
import { rotateCheckIn } from "./checkin.js";
import { consentButtons } from "./consent.js";
import { follow } from "./live.js";
import { forget, newId, pending, present } from "./present.js";
import { Camera, hasCamera, readPicture } from "./read.js";
import { drawProblem, drawResult } from "./result.js";
import { confirmAgain, painted } from "./shown.js";
import { Witness } from "./witness.js";
import { clockTime, el, icon, other, resetLanguage, t } from "./words.js";

const IDLE_MS = 60000; // then ask; 20 s later everything is wiped
const STILL_S = 20;
const NOTICE_MS = 6000;
const SLACK_MS = 1500; // core ends a result; the page does only when core is not heard
const PRIVATE_MS = 20000; // a screen that says what somebody owns stays so much longer, asked for
const KEYS = ["0123456789", "QWERTYP", "ASDFGHJK", "ZXCVBNM"]; // Crockford: no I, L, O, U

const $ = (id) => document.getElementById(id);
const station = document.body.dataset.station;
const camera = new Camera();
const witness = new Witness(station);
const views = ["attract", "camera", "typing", "working", "pending", "result"];
let shown = { number: -1, key: "", answer: null, problem: null, held: false };
let nowUs = null, nowAt = 0, noticeTimer, idleTimer, stillTimer, endTimer, askTimer;

function show(view) {
  if (view !== "camera") camera.stop($("video"));
  for (const name of views) $(name).hidden = name !== view;
  document.body.dataset.screen = view;
  $("cleared").hidden = true;
  document.body.dataset.look = view === "result" ? $("result").firstElementChild?.classList[1] ?? "" : "";
  const target = { camera: "#camera h1", typing: "#code", working: "#working h1", pending: "#pending h1", result: "#result h1", attract: null }[view];
  if (target) document.querySelector(target)?.focus();
  touch();
}

// ------------------------------------------------------------ results

function showAnswer(answer, number, showsS) {
  const key = JSON.stringify(answer);
  if (shown.key === key && document.body.dataset.screen !== "attract") { // told twice, by its own request and by core; the next code may be half typed
    shown.number = Math.max(shown.number, number);
    return;
  }
  shown = { number, key, answer, problem: null, held: false };
  drawShown();
  painted(station, answer, () => shown.key === key && !$("result").hidden);
  clearTimeout(askTimer);
  if (answer.consent) askTimer = setTimeout(() => shown.key === key && unasked(), answer.consent.for_s * 1000);
  clearTimeout(endTimer);
  if (showsS > 0) endTimer = setTimeout(() => !shown.held && wipe(), showsS * 1000 + SLACK_MS);
}

function showProblem(problem, retry) {
  shown = { ...shown, key: "", answer: null, problem: { problem, retry }, held: false };
  drawShown();
}

function drawShown() {
  const done = el("button", { type: "button", class: "main", id: "done" }, icon("check"), t("kiosk.done"));
  done.addEventListener("click", wipe);
  const buttons = [done];
  if (shown.answer?.consent) {
    const waits = ["code", "next"].includes(shown.answer.consent.state);
    const answers = consentButtons(shown.answer.consent, station, heardConsent);
    if (waits && hasCamera()) answers.unshift(cameraButton());
    $("result").replaceChildren(drawResult(shown.answer, answers));
  } else if (shown.answer) {
    const stay = el("button", { type: "button", id: "stay" }, t("kiosk.stay"));
    stay.addEventListener("click", () => {
      shown.held = true;
      stay.disabled = true;
      if (isPrivate(shown.answer)) (clearTimeout(endTimer), endTimer = setTimeout(wipe, PRIVATE_MS));
      touch();
    });
    stay.disabled = shown.held;
    buttons.push(stay);
    $("result").replaceChildren(drawResult(shown.answer, buttons));
  } else if (shown.problem) {
    const { problem, retry } = shown.problem;
    if (retry) {
      const again = el("button", { type: "button", id: "again" }, t("kiosk.again"));
      again.addEventListener("click", retry);
      buttons.push(again);
    }
    $("result").replaceChildren(drawProblem(problem(), buttons));
  }
  show("result");
}

// A till's code or a pass stays longer than the question: what nobody answered goes from the page.
function unasked() {
  shown.answer = { ...shown.answer, consent: null };
  drawShown();
}

function cameraButton() {
  const button = el("button", { type: "button", id: "consent-camera" }, icon("camera"), t("read.camera"));
  button.addEventListener("click", byCamera);
  return button;
}

// Nothing heard is no: nothing was recorded that this screen knows of, and the question ends by itself.
function heardConsent(outcome) {
  if (outcome.answer) return showAnswer(outcome.answer, shown.number, outcome.answer.consent?.for_s ?? 6);
  wipe();
}

// End of a session: whatever this customer typed, showed or was told leaves the page.
function wipe() {
  clearTimeout(endTimer);
  $("code").value = "";
  $("file").value = "";
  $("result").replaceChildren();
  sessionStorage.clear();
  shown = { number: shown.number, key: "", answer: null, problem: null, held: false };
  $("still").hidden = true;
  $("notice").hidden = true;
  $("notice").textContent = "";
  resetLanguage();
  const wasAway = document.body.dataset.screen !== "attract";
  show("attract");
  document.activeElement?.blur();
  if (wasAway) flash();
}

function flash() {
  $("cleared").hidden = false;
  setTimeout(() => ($("cleared").hidden = true), 2500);
}

// ------------------------------------------------------------ presenting

async function submit(found, source) {
  const body = { station, code: found.code, presentation_id: newId(), symbology_id: found.symbology_id ?? "]X0", source };
  await send("/v1/redeem", body);
}

async function send(address, body) {
  $("code").value = "";
  show("working");
  const outcome = await present(address, body);
  if (outcome.answer) return showAnswer(outcome.answer, shown.number, outcome.answer.asking ? 90 : outcome.answer.till_code ? 60 : 30); // a phone has to come out first
  if ([401, 403].includes(outcome.status)) return location.reload(); // not paired any more: the page says so, or pairs anew
  if (outcome.refused) return showProblem(() => outcome.refused, null);
  showProblem(() => ({ message: both("kiosk.silent"), next_step: both("kiosk.silent.next") }), () => send(address, body));
}

const both = (key) => ({ zh: t(key), en: t(key) });

async function byPicture(blob) {
  if (!blob) return;
  show("working");
  const found = await readPicture(blob);
  if (found) return submit(found, "picture");
  show("attract");
  notice(t("read.nothing"));
}

async function byCamera() {
  if (!hasCamera()) return notice(t("read.no_camera"));
  show("camera");
  try {
    await camera.start($("video"), (found) => submit(found, "camera"));
  } catch {
    show("attract");
    notice(t("read.no_camera"));
  }
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => ($("notice").hidden = true), NOTICE_MS);
}

// ------------------------------------------------------------ typing

function group(text) {
  const bare = text.replace(/[\s-]/g, "").toUpperCase();
  return /^[0-9A-Z]{0,14}$/.test(bare) ? bare.replace(/(.{4})(?=.)/g, "$1-") : text; // a token typed by a scanner stays as it is
}

function press(letter) {
  const bare = $("code").value.replace(/-/g, "");
  $("code").value = group(letter === "⌫" ? bare.slice(0, -1) : bare.length < 14 ? bare + letter : bare);
  touch();
}

function buildKeys() {
  for (const row of KEYS) {
    const line = el("div", {});
    for (const letter of row) line.append(el("button", { type: "button", "data-key": letter }, letter));
    $("keys").append(line);
  }
  const back = el("button", { type: "button", "data-key": "⌫", "data-t-label": "read.delete", "aria-label": t("read.delete") }, "⌫");
  $("keys").lastElementChild.append(back);
  $("keys").addEventListener("click", (event) => event.target.dataset.key && press(event.target.dataset.key));
}

$("code").addEventListener("input", () => ($("code").value = group($("code").value)));
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const code = $("code").value.trim();
  if (code) submit({ code }, "typed");
});

// A keyboard, or a scanner that types: the first letter opens the field and lands in it.
document.addEventListener("keydown", (event) => {
  touch();
  if (event.key === "Escape") return wipe();
  const free = ["attract", "result"].includes(document.body.dataset.screen) && $("still").hidden;
  if (!free || event.ctrlKey || event.metaKey || event.altKey || event.key.length !== 1 || event.key === " ") return;
  $("code").value = "";
  show("typing");
});

// ------------------------------------------------------------ other ways in

$("by-camera").addEventListener("click", byCamera);
$("by-picture").addEventListener("click", () => $("file").click());
$("by-typing").addEventListener("click", () => show("typing"));
$("file").addEventListener("change", () => byPicture($("file").files[0]));
for (const back of document.querySelectorAll(".back")) back.addEventListener("click", wipe);

document.addEventListener("paste", (event) => {
  const picture = [...event.clipboardData.files].find((file) => file.type.startsWith("image/"));
  if (picture) return byPicture(picture);
  const text = event.clipboardData.getData("text").trim();
  if (!text || event.target === $("code")) return;
  submit({ code: text.slice(0, 4296) }, "typed");
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").hidden = false;
});
document.addEventListener("dragleave", (event) => event.relatedTarget === null && ($("drop").hidden = true));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").hidden = true;
  byPicture(event.dataTransfer.files[0]);
});

// ------------------------------------------------------------ time: nobody is cut off without being asked

function touch() {
  clearTimeout(idleTimer);
  const screen = document.body.dataset.screen;
  if (screen === "attract" && document.documentElement.lang === "en") idleTimer = setTimeout(resetLanguage, IDLE_MS);
  if (["attract", "working", "pending"].includes(screen) || (screen === "result" && shown.answer && !shown.held)) return;
  idleTimer = setTimeout(askStill, IDLE_MS);
}

function askStill() {
  let left = STILL_S;
  const before = document.activeElement;
  $("still-s").textContent = left;
  $("still").hidden = false;
  $("still-yes").focus();
  clearInterval(stillTimer);
  stillTimer = setInterval(() => {
    $("still-s").textContent = --left;
    if (left > 0 && !$("still").hidden) return;
    clearInterval(stillTimer);
    if (left <= 0) wipe();
  }, 1000);
  $("still-yes").onclick = () => {
    clearInterval(stillTimer);
    $("still").hidden = true;
    before?.focus();
    touch();
  };
}

document.addEventListener("pointerdown", touch);

function tick() {
  const us = nowUs === null ? null : nowUs + (performance.now() - nowAt) * 1000;
  $("clock").textContent = us === null ? "" : clockTime(us);
}

document.addEventListener("language", () => {
  $("second").textContent = other("kiosk.attract.title");
  $("second").lang = document.documentElement.lang === "en" ? "zh-Hant" : "en";
  tick();
  if (document.body.dataset.screen === "result") drawShown();
});

// ------------------------------------------------------------ core

function onView(view) {
  nowUs = view.now_us;
  nowAt = performance.now();
  tick();
  $("offline").hidden = view.line.up;
  drawAdmission($("unproven"), view.admission, view.now_us);
  witness.heed(view.mark, view.admission.admitted);
  const screen = view.screen;
  if (screen.number === shown.number) return;
  const first = shown.number === -1;
  shown.number = screen.number;
  if (screen.state === "pending") return show("pending"); // core asks headquarters; the answer comes by itself
  if (screen.answer && screen.state !== "attract") return showAnswer(screen.answer, screen.number, screen.shows_s);
  const busy = ["typing", "camera", "working"].includes(document.body.dataset.screen) || shown.held || shown.problem;
  if (!busy && !first) wipe();
}

buildKeys();
setInterval(tick, 1000);
follow(`/v1/stations/${encodeURIComponent(station)}/events`, onView, (lost) => {
  $("lost").hidden = !lost;
  if (lost && shown.number >= 0) shown.number = -2; // a core that comes back counts anew
}, () => (witness.present(), confirmAgain()));
if ($("checkin")) rotateCheckIn($("checkin"), station);
const unfinished = pending();
if (unfinished) send(unfinished.address, unfinished.body);
else forget();
