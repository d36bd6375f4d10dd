// What is left: of a voucher with a value, of a balance lent out in shares, of a member's points. For whoever stands there, for seconds.
import { dayTime, el, t } from "./words.js";

const SIGNS = { TWD: ["NT$", 0], HKD: ["HK$", 2] };

export function money(minor, currency) {
  const [sign, decimals] = SIGNS[currency] ?? SIGNS.TWD;
  return sign + (minor / 10 ** decimals).toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

// Whether an answer says what somebody owns: such a screen is never kept longer than asked for.
export const isPrivate = (answer) => Boolean(answer.member || answer.balance) || (answer.balance_minor ?? null) !== null;

export function drawBalance(answer, at_us) {
  const currency = answer.priced?.currency ?? document.body.dataset.currency;
  const held = answer.balance;
  if (!held) return (answer.balance_minor ?? null) === null || answer.member ? null : el("dl", { class: "left" }, ...line("result.balance", money(answer.balance_minor, currency)));
  const said = (n) => (held.unit === "points" ? n.toLocaleString("en") : money(n, currency));
  const lines = [];
  if (held.taken) lines.push(...line("result.balance.taken", said(held.taken)));
  if (held.known !== null && !answer.member) {
    const when = dayTime(at_us - held.known_age_s * 1e6);
    const as_of = `${t(held.is_stale ? "result.points.stale" : "result.points.as_of")} ${when}`;
    lines.push(...line(held.unit === "points" ? "result.points" : "result.balance.known", said(held.known), as_of, held.is_stale));
  }
  lines.push(...line("result.balance.here", said(held.here), held.here && held.ends_s ? `${t("result.balance.until")} ${dayTime(held.ends_s * 1e6)}` : ""));
  const all = answer.member ? answer.member.points : held.known;
  if (all === null || all > held.here) lines.push(el("dd", { class: "rest" }, t("result.balance.rest")));
  return el("dl", { class: "left" }, ...lines);
}

function line(key, value, more = "", stale = false) {
  return [el("dt", {}, t(key)), el("dd", { class: stale ? "stale" : null }, el("b", {}, value), more ? ` ${more}` : "")];
}
