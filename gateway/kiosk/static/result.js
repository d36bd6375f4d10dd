// An answer of core as a screen: colour, icon and words together, never colour alone.
import { drawBalance } from "./balance.js";
import { drawConsent } from "./consent.js";
import { drawPoints } from "./points.js";
import { dayTime, el, icon, language, pick, t } from "./words.js";

const stations = JSON.parse(document.getElementById("stations").textContent);

const LOOK = {
  redeemed: ["good", "check"],
  collected: ["good", "check"],
  staged: ["good", "parcel"],
  collecting: ["door", "door"],
  staging: ["door", "door"],
  honoured: ["good", "check"],
  rung: ["good", "check"],
  recognised: ["good", "check"],
  show_member: ["door", "person"],
  join_next: ["door", "person"],
  joined: ["good", "check"],
  not_joined: ["good", "check"],
  consent_withdrawn: ["good", "check"],
  refused: ["bad", "stop"],
};

const ENQUIRIES = new Set(["amount_needed", "points_needed"]); // nothing went wrong: it says what there is, and that a till says how much

export const isGood = (answer) => answer.decision !== "refused";

export function drawResult(answer, buttons) {
  const [look, sign] = ENQUIRIES.has(answer.reason) ? ["door", "keys"] : LOOK[answer.decision] ?? ["bad", "stop"];
  const opens = (answer.decision === "collecting" || answer.decision === "staging") && answer.compartment !== null;
  const mark = opens
    ? el("div", { class: "mark number" }, el("small", {}, t("result.door")), el("b", { "data-door": answer.compartment }, String(answer.compartment)))
    : answer.asking
      ? el("img", { class: "asking", alt: t("result.asking"), src: `/v1/asking.svg?text=${encodeURIComponent(answer.asking)}` })
      : el("div", { class: "mark" }, icon(sign));
  const words = el("div", { class: "words" }, el("h1", { tabindex: "-1" }, pick(answer.message)));
  if (answer.practice) words.prepend(el("p", { class: "lesson" }, t("result.practice")));
  const title = pick(answer.title);
  if (title) words.append(el("p", { class: "what" }, title));
  if (answer.order_number) words.append(el("p", { class: "order" }, `${t("result.order")} ${answer.order_number}`));
  if (answer.uses_left > 0 && isGood(answer)) words.append(el("p", { class: "order" }, `${t("result.uses_left")} ${answer.uses_left}`));
  if (answer.till_code) words.append(drawTillCode(answer.till_code));
  if (answer.member) words.append(drawPoints(answer.member));
  const left = drawBalance(answer, answer.decided_us);
  if (left) words.append(left);
  if (answer.before) words.append(drawBefore(answer.before));
  const step = pick(answer.next_step);
  if (step) words.append(el("p", { class: "next" }, step));
  if (answer.reference && isGood(answer) && !answer.order_number) words.append(el("p", { class: "reference" }, `${t("result.reference")} ${answer.reference}`));
  const question = answer.consent ? drawConsent(answer.consent) : null;
  const ends = el("div", { class: answer.consent ? "buttons answers" : "buttons" }, ...buttons);
  const looks = `result ${look}${answer.practice ? " practice" : ""}${question ? " asks" : ""}`;
  return el("div", { class: looks, "data-decision": answer.decision, "data-reason": answer.reason || null }, mark, words, question ?? "", ends);
}

// For a till without an API: its scanner reads the bars, or the cashier types the digits.
function drawTillCode(code) {
  const digits = code.replace(/(.{4})(?=.)/g, "$1 ");
  return el(
    "figure", { class: "till" }, el("img", { alt: `${t("result.till")} ${digits}`, src: `/v1/till-code.svg?code=${encodeURIComponent(code)}` }),
    el("figcaption", {}, el("span", {}, t("result.till")), el("b", {}, digits)),
  );
}

function drawBefore(before) {
  const who = [el("dt", {}, t("result.before.who")), el("dd", {}, before.staff ?? t("result.before.self"))];
  return el(
    "dl", { class: "before" },
    el("dt", {}, t("result.before.when")), el("dd", {}, dayTime(before.at_us)),
    ...(before.station ? [el("dt", {}, t("result.before.where")), el("dd", {}, stationName(before))] : []),
    ...who,
  );
}

function stationName(before) {
  if (before.station === "staff") return t("result.before.staff");
  const known = stations.find((station) => station.name === before.station);
  return known ? (language() === "en" ? known.en : known.zh) : before.station;
}

// What HTTP itself refused ({message, next_step}), or silence, in the same shape.
export function drawProblem(found, buttons) {
  return drawResult(
    { decision: "refused", reason: found.error ?? "", message: found.message, next_step: found.next_step, title: null, before: null, compartment: null, balance_minor: null }, buttons,
  );
}
