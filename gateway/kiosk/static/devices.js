// A manager's devices: those that ask to be paired, and those that are. The digits here must be those on the device's own screen.
import { ask } from "./present.js";
import { dayTime, el, t } from "./words.js";

const LOOK_MS = 2000;
const SURE_MS = 4000;
const KINDS = { kiosk: "staff.devices.kiosk", pos: "staff.devices.pos", phone: "staff.devices.phone" };

// The kiosk's QR code brings its digits behind the #; they are taken out of the address at once.
let wanted = /^#pair=(\d{6})$/.exec(location.hash)?.[1] ?? null;
if (location.hash) history.replaceState(null, "", location.pathname + location.search);
export const wantedCode = () => wanted;

export class Devices {
  constructor(waiting, paired, onRefused) {
    Object.assign(this, { waiting, paired, onRefused, timer: null });
  }

  start() {
    this.stop();
    this.timer = setInterval(() => this.look(), LOOK_MS);
    this.look();
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
  }

  async look() {
    try {
      const [asks, devices] = await Promise.all(["/v1/staff/pairings", "/v1/staff/devices"].map(read));
      if (this.waiting.querySelector(".sure") || this.paired.querySelector(".sure")) return; // a finger hovers over it
      this.waiting.replaceChildren(...rows(asks.map((one) => this.drawAsk(one))));
      this.paired.replaceChildren(...rows(devices.map((one) => this.drawDevice(one))));
    } catch {
      // The banner says that core is away; the lists come back with it.
    }
  }

  drawAsk(one) {
    const button = el("button", { type: "button", "data-code": one.code }, t("staff.devices.pair"));
    button.addEventListener("click", () => this.send("/v1/staff/pairings", { code: one.code }));
    const look = one.code === wanted ? "device wanted" : "device";
    const digits = el("span", { class: "digits" }, `${one.code.slice(0, 3)} ${one.code.slice(3)}`);
    return el("li", { class: look }, digits, el("small", {}, label(one)), button);
  }

  drawDevice(one) {
    const seen = one.seen_us ? t("staff.devices.seen").replace("{at}", dayTime(one.seen_us)) : "";
    const lines = [el("b", {}, label(one)), el("small", {}, one.revoked ? t("staff.devices.revoked") : seen)];
    if (one.revoked) return el("li", { class: "device gone" }, ...lines);
    const button = el("button", { type: "button", "data-device": one.device_id }, t("staff.devices.revoke"));
    button.addEventListener("click", () => {
      if (button.classList.contains("sure")) return this.send(`/v1/staff/devices/${encodeURIComponent(one.device_id)}/revoke`, {});
      button.classList.add("sure");
      button.textContent = t("staff.devices.sure");
      setTimeout(() => {
        button.classList.remove("sure");
        button.textContent = t("staff.devices.revoke");
      }, SURE_MS);
    });
    return el("li", { class: "device" }, ...lines, button);
  }

  async send(address, body) {
    const outcome = await ask(address, body);
    if (outcome.refused) this.onRefused(outcome);
    else wanted = null;
    for (const button of document.querySelectorAll("#devices .sure")) button.classList.remove("sure");
    this.look();
  }
}

const rows = (drawn) => (drawn.length ? drawn : [el("li", { class: "empty" }, t("staff.none"))]);

const label = (one) => [t(KINDS[one.kind] ?? one.kind), one.station, one.name].filter(Boolean).join(" · ");

async function read(address) {
  const response = await fetch(address, { signal: AbortSignal.timeout(8000) });
  if (!response.ok) throw new Error(address);
  return response.json();
}
