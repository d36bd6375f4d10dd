// What the screen asks a member: both languages, two buttons of one size, no form. Core ends the question; silence is no.
import { ask, newId } from "./present.js";
import { el, language, other, t } from "./words.js";

const key = (asking, name) => `consent.${asking.version}.${name}`;

export function drawConsent(asking) {
  if (!["ask", "standing"].includes(asking.state)) return null;
  const second = language() === "en" ? "zh-Hant" : "en";
  const names = asking.state === "standing" ? ["standing", "kept"] : ["question", "stored", "kept"];
  const parts = (say, lang) => names.map((name, n) => el(n ? "p" : "h2", { lang, id: say === t && !n ? "consent-title" : null }, say(key(asking, name))));
  return el("section", { class: "consent", "aria-labelledby": "consent-title" }, el("div", {}, ...parts(t, language())), el("div", { class: "second" }, ...parts(other, second)));
}

// The two answers; of one that waits for a code, the way to end that.
export function consentButtons(asking, station, onOutcome) {
  const send = async (yes) => {
    for (const one of document.querySelectorAll(".answers button")) one.disabled = true; // one touch is one answer
    const outcome = await ask("/v1/consent", { station, offer_id: asking.offer_id, yes, key: newId() });
    onOutcome(outcome);
  };
  const button = (id, yes, name) => {
    const made = el("button", { type: "button", id, class: "answer" }, el("span", {}, el("b", {}, t(key(asking, name))), el("small", { lang: language() === "en" ? "zh-Hant" : "en" }, other(key(asking, name)))));
    made.addEventListener("click", () => send(yes));
    return made;
  };
  const words = asking.state === "standing" ? ["go_on", "stop"] : ["yes", "no"];
  if (["ask", "standing"].includes(asking.state)) return [button("consent-yes", true, words[0]), button("consent-no", false, words[1])];
  return [button("consent-no", false, "no")];
}
