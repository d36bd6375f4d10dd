// Members on the staff page: who is there now (tier only), who has a number, and who may not look for numbers any more.
import { ask } from "./present.js";
import { follow } from "./live.js";
import { drawPoints } from "./points.js";
import { dayTime, el, pick, t } from "./words.js";

const SHOWN_MS = 60_000; // as long as core calls somebody there
const $ = (id) => document.getElementById(id);

export class Members {
  #gone;
  #stream = null;
  #timer = null;
  #told = null;
  #answer = null;

  constructor(gone) {
    this.#gone = gone; // nobody is signed in any more
    $("member-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const phone = $("phone").value.trim();
      $("phone").value = ""; // a number is nobody's business but the next request's
      if (phone) this.lookUp({ phone });
    });
    document.addEventListener("language", () => this.#draw());
  }

  start(manager) {
    this.manager = manager;
    this.#stream ??= follow("/v1/staff/members/events", (told) => this.#heed(told), () => {});
  }

  clear() {
    this.#answer = null;
    $("phone").value = "";
    $("member-found").replaceChildren();
  }

  async lookUp(what) {
    const outcome = await ask("/v1/members/lookup", { station: "staff", ...what });
    if (outcome.status === 401) return this.#gone();
    this.#answer = outcome.answer ?? { found: false, message: outcome.refused?.message ?? { zh: t("staff.silent"), en: t("staff.silent") }, next_step: outcome.refused?.next_step };
    this.#draw();
    $("member-found").querySelector("h2")?.focus();
  }

  #heed(told) {
    this.#told = told;
    this.#draw();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => ((this.#told = { ...told, alerts: [] }), this.#draw()), SHOWN_MS);
  }

  #draw() {
    const [latest] = this.#told?.alerts ?? [];
    $("member-alert").hidden = !latest;
    $("member-alert").replaceChildren(...(latest ? [el("b", {}, latest.tier), ` ${t("staff.member.here")} · ${latest.station}`] : []));
    $("member-locked").replaceChildren(...Object.entries(this.#told?.locked ?? {}).map(([by, since]) => this.#lock(by, since)));
    if (this.#answer) $("member-found").replaceChildren(drawMember(this.#answer));
  }

  #lock(by, since) {
    const parts = [el("span", { class: "lines" }, el("b", {}, t("staff.member.locked")), el("small", {}, `${by} · ${dayTime(since)}`))];
    if (this.manager) {
      const button = el("button", { type: "button" }, t("staff.member.unlock"));
      button.addEventListener("click", () => ask("/v1/staff/members/unlock", { by }));
      parts.push(button);
    }
    return el("li", { "data-locked": by }, ...parts);
  }
}

function drawMember(answer) {
  if (!answer.found)
    return el("div", { class: "member" }, el("h2", { tabindex: "-1" }, pick(answer.message)), ...(answer.next_step ? [el("p", { class: "hint" }, pick(answer.next_step))] : []));
  return el(
    "div", { class: "member", "data-member": answer.member_ref },
    el("h2", { tabindex: "-1" }, answer.tier || t("staff.member")),
    drawPoints(answer),
    ...(answer.tags.length ? [el("p", {}, answer.tags.join("、"))] : []),
  );
}
