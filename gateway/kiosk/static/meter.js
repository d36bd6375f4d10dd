// What the shop has taken on trust, and what is left of its allotments of open codes: for staff, always as the last view says.
import { el, t } from "./words.js";

const put = (text, values) => Object.entries(values).reduce((said, [name, value]) => said.replace(`{${name}}`, value), text);
const BEARERS = { issuer: "staff.meter.bearer.issuer", retailer: "staff.meter.bearer.retailer", shop: "staff.meter.bearer.shop" };
const minutes = (seconds) => Math.floor(seconds / 60);

function riskLine(one, nowUs) {
  const title = one.campaign < 0 ? t("staff.meter.every") : put(t("staff.meter.campaign"), { n: one.campaign });
  const open = one.open_rows ? put(t("staff.meter.open"), { open: one.open_minor, cap: one.cap_minor, currency: one.currency, n: one.open_rows }) : t("staff.meter.none");
  const oldest = one.oldest_us ? ` · ${put(t("staff.meter.oldest"), { n: minutes(Math.max(0, nowUs - one.oldest_us) / 1e6) })}` : "";
  const list = one.list_age_s === null ? t("staff.meter.list_unknown") : put(t("staff.meter.list"), { n: minutes(one.list_age_s), limit: minutes(one.list_limit_s) });
  const loss = one.realised_minor ? put(t("staff.meter.realised"), { loss: one.realised_minor, currency: one.currency, bearer: t(BEARERS[one.bearer]) }) : "";
  const row = el("div", { class: "device" }, el("b", {}, `${title}：${open}${oldest}`), ...[loss, list].filter(Boolean).map((text) => el("small", {}, text)));
  row.dataset.open = one.open_minor;
  return row;
}

function quotaLine(one) {
  const title = document.documentElement.lang === "en" ? one.title_en : one.title_zh;
  return el("div", { class: "device" }, el("b", {}, put(t("staff.meter.quota"), { title, left: one.left, allotted: one.allotted })));
}

export function drawMeter(place, view) {
  const lines = [...view.risk.map((one) => riskLine(one, view.now_us)), ...view.quotas.map(quotaLine)];
  place.hidden = !lines.length;
  place.querySelector("ul").replaceChildren(...lines.map((line) => el("li", {}, line)));
}
