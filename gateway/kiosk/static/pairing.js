// A kiosk that is not paired: ask, show six digits, and come back with a key once a manager has said yes.
import { pick, t } from "./words.js";

const POLL_MS = 1000;
const AGAIN_MS = 5000;
const ASK = "ask";
const $ = (id) => document.getElementById(id);
const station = document.body.dataset.station;
let problem = null;

async function post(address, body) {
  const response = await fetch(address, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal: AbortSignal.timeout(8000),
  });
  return { status: response.status, found: await response.json() };
}

function show(asked) {
  $("pair-code").textContent = `${asked.code.slice(0, 3)} ${asked.code.slice(3)}`;
  $("pair-qr").src = asked.qr;
  $("pair-qr").hidden = false;
  complain(null);
}

function complain(words) {
  problem = words;
  $("pair-problem").textContent = words ? pick(words) : "";
}

// One ask at a time, also over a reload of the page; a new one when the digits have run out.
async function turn() {
  const asked = JSON.parse(sessionStorage.getItem(ASK));
  if (!asked) {
    const { status, found } = await post("/v1/pairings", { station, kind: "kiosk" });
    if (status === 403) return location.reload();
    if (status !== 201) return complain(found.message);
    sessionStorage.setItem(ASK, JSON.stringify(found));
    return show(found);
  }
  const { status, found } = await post("/v1/pairings/claim", { ask: asked.ask });
  if (status === 403) return location.reload();
  if (status === 404) return sessionStorage.removeItem(ASK);
  if (found.state === "paired") {
    sessionStorage.removeItem(ASK);
    return location.reload();
  }
  show(asked);
  $("pair-left").textContent = t("kiosk.pair.left").replace("{n}", found.left_s);
}

async function run() {
  let pause = POLL_MS;
  try {
    await turn();
  } catch {
    complain({ zh: t("common.lost"), en: t("common.lost") });
  }
  if (problem) pause = AGAIN_MS;
  setTimeout(run, pause);
}

document.addEventListener("language", () => problem && complain(problem));
run();
