// Why the shop does not decide yet, for how long already, and what to do: one banner on every page.
import { t } from "./words.js";

function words(admission) {
  if (admission.state === "doubted") return t("common.admission.doubted");
  return admission.awaited.length ? t("common.admission.awaited") : t("common.admission.settling");
}

export function drawAdmission(banner, admission, nowUs) {
  banner.hidden = admission.admitted;
  if (admission.admitted) return;
  const minutes = Math.max(0, Math.floor((nowUs - admission.since_us) / 60e6));
  banner.querySelector("span.more").textContent = words(admission).replace("{names}", admission.awaited.join("、")).replace("{n}", minutes);
}
