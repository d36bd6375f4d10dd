"use strict";
// Tries a definition on a basket with the shops' own engine, and lets it be published only as it was tried.

const campaignForm = document.getElementById("campaign");
const outcome = document.getElementById("outcome");
const publish = document.getElementById("publish");
let triedAs = "";

function definitionOf(form) {
  const { check, ...definition } = collect(form);
  return definition;
}

function basketOf(form) {
  const part = (name) => form.elements[`check.${name}`];
  const lines = (collect(form).check?.lines || []).map((line, place) => ({ line_id: String(place + 1), ...line }));
  const ask = { basket: { currency: form.elements.currency.value, lines }, codes: valueOf(part("codes")), member: part("member").checked };
  if (form.elements.trigger.value === "voucher") {
    ask.vouchers = [{ voucher_id: "check", campaign: Number(form.elements.campaign.value), balance_minor: Number(part("balance").value || 0) }];
  }
  if (part("at").value) {
    const zone = part("store").selectedOptions[0]?.dataset.zone || "Asia/Taipei";
    const at = stampIn(zone, part("at").value) * 1000000;
    ask.at = { earliest_us: at, latest_us: at };
  }
  return ask;
}

function line(text, tone = "") {
  const row = document.createElement("p");
  row.textContent = text;
  row.className = tone;
  return row;
}

function heading(text) {
  const title = document.createElement("h3");
  title.textContent = text;
  return title;
}

const english = document.documentElement.lang === "en";
const word = (both) => (english ? both.en : both.zh);

function money(minor, priced) {
  return `${priced.currency} ${(minor / 10 ** priced.decimals).toLocaleString("en-US", { minimumFractionDigits: priced.decimals })}`;
}

function draw(answer, number) {
  const priced = answer.priced, said = outcome.dataset;
  outcome.replaceChildren();
  if (!answer.is_for_shop) outcome.append(line(said.notHere, "late"));
  outcome.append(line(`${said.total} ${money(priced.amount_minor, priced)}`));
  outcome.append(heading(said.used));
  if (!priced.adjustments.length) outcome.append(line(said.none, "late"));
  for (const one of priced.adjustments) {
    const gifts = one.gifts.map((gift) => `${said.gift} ${gift.sku} × ${gift.quantity}`).join(", ");
    const row = line(`${one.campaign} ${word(one.title)}${one.campaign === number ? `（${said.draft}）` : ""}: −${money(one.minor, priced)} ${gifts}`, one.campaign === number ? "good mine" : "good");
    row.dataset.adjustment = one.campaign;
    outcome.append(row);
  }
  if (priced.refused.length) outcome.append(heading(said.unused));
  for (const one of priced.refused) {
    const gap = one.gap_minor ? `（${said.gap} ${money(one.gap_minor, priced)}）` : one.gap_quantity ? `（${said.gap} ${one.gap_quantity}）` : "";
    const row = line(`${one.campaign || one.code} ${word(one.title)}: ${word(one.message)}${gap}`, one.campaign === number ? "late mine" : "");
    row.dataset.refused = one.campaign;
    outcome.append(row);
  }
  if (priced.voucher_minor) outcome.append(line(`${said.paid} ${money(priced.voucher_minor, priced)}`));
  const due = line(`${said.toPay} ${money(priced.to_pay_minor, priced)}`, "due");
  due.dataset.toPay = priced.to_pay_minor;
  outcome.append(due);
}

function settle() {
  publish.disabled = !triedAs || triedAs !== JSON.stringify(definitionOf(campaignForm));
}

document.getElementById("try").addEventListener("click", async () => {
  if (!sound(campaignForm)) return;
  const definition = definitionOf(campaignForm);
  const body = { definition, store: campaignForm.elements["check.store"].value, ask: basketOf(campaignForm) };
  const answer = await post(campaignForm.dataset.check, JSON.stringify(body), campaignForm);
  if (!answer) return;
  triedAs = JSON.stringify(definition);
  draw(answer, definition.campaign);
  settle();
});

campaignForm.addEventListener("input", settle);
campaignForm.addEventListener("change", settle);
