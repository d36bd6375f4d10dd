"use strict";
// From fields to the API's JSON, and from its refusals back to the field they are about.
// `a.b` in a name is a part of a part; `data-row` holds one line of a list; a disabled or hidden part is not sent.

const BLANK = Symbol("blank");

function valueOf(field) {
  const text = field.value.trim();
  if (field.type === "checkbox") return field.checked;
  if (text === "" && ("omit" in field.dataset || field.dataset.part)) return BLANK;
  if (text === "" && "null" in field.dataset) return null;
  if (field.type === "number" || "integer" in field.dataset) return Number(text);
  if ("json" in field.dataset) return JSON.parse(text);
  if ("map" in field.dataset) return Object.fromEntries(text.split(/[\s,，、]+/).filter(Boolean).map((one) => [one.split("=")[0], Number(one.split("=")[1])]));
  if ("stamp" in field.dataset) return stampIn(zoneOf(field.form), text);
  if ("list" in field.dataset) return text.split("\n").map((line) => line.trim()).filter(Boolean);
  if ("words" in field.dataset) return text.split(/[\s,，、]+/).filter(Boolean);
  return "raw" in field.dataset ? field.value : text;
}

function put(body, path, value) {
  const parts = path.split("."), last = parts.pop();
  const place = parts.reduce((inner, part) => (inner[part] ??= {}), body);
  place[last] = value;
}

function pushOn(body, path, value) {
  const found = path.split(".").reduce((inner, part) => inner?.[part], body);
  put(body, path, [...(found || []), value]);
}

function collect(form) {
  const body = {};
  for (const field of form.elements) {
    if (!field.name || field.matches(":disabled") || "apart" in field.dataset || field.dataset.part) continue;
    if (field.type === "radio" && !field.checked) continue;
    if (field.type === "checkbox" && "many" in field.dataset) {
      if (field.checked) pushOn(body, field.name, "number" in field.dataset ? Number(field.value) : field.value);
      else if (!("omit" in field.dataset)) put(body, field.name, field.name.split(".").reduce((inner, part) => inner?.[part], body) || []);
      continue;
    }
    if (field.type === "checkbox" && "omit" in field.dataset && !field.checked) continue;
    const value = valueOf(field);
    const isEmpty = Array.isArray(value) && !value.length && "omit" in field.dataset;
    if (value !== BLANK && !isEmpty) put(body, field.name, value);
  }
  for (const row of form.querySelectorAll("[data-row]")) {
    const parts = [...row.querySelectorAll("[data-part]")].filter((field) => !field.matches(":disabled"));
    const said = parts.map((field) => [field.dataset.part, valueOf(field)]).filter(([, value]) => value !== BLANK);
    if (!said.length) continue;
    pushOn(body, row.dataset.row, "pair" in row.dataset ? said.map(([, value]) => value) : Object.fromEntries(said));
  }
  return body;
}

// ---------------------------------------------------------------- times in a shop

function zoneOf(form) {
  return form.elements.store?.selectedOptions?.[0]?.dataset.zone || "Asia/Taipei";
}

function offsetMs(zone, at) {
  const parts = new Intl.DateTimeFormat("en-US", { timeZone: zone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" }).formatToParts(at);
  const part = (type) => Number(parts.find((one) => one.type === type).value);
  return Date.UTC(part("year"), part("month") - 1, part("day"), part("hour"), part("minute"), part("second")) - at;
}

function stampIn(zone, text) {
  const wall = Date.parse(`${text}Z`);
  if (Number.isNaN(wall)) return NaN;
  const first = wall - offsetMs(zone, wall);
  return Math.round((wall - offsetMs(zone, first)) / 1000);
}

// ---------------------------------------------------------------- what is wrong, at the field

function clearWrong(form) {
  form.querySelectorAll(".wrong").forEach((one) => one.remove());
  form.querySelectorAll("[aria-invalid]").forEach((one) => { one.removeAttribute("aria-invalid"); one.removeAttribute("aria-describedby"); });
}

function wrong(field, text) {
  const said = document.createElement("small");
  said.className = "wrong";
  said.id = `wrong-${document.querySelectorAll(".wrong").length}`;
  said.textContent = text;
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", said.id);
  (field.closest("label, fieldset, [data-row]") || field.parentElement).append(said);
}

function fieldOf(form, path) {
  const named = (name) => [...form.elements].find((one) => one.name === name && !one.matches(":disabled"));
  const row = path.match(/^(.*?)(?:\[(\d+)\]|\.(\d+))(?:\.(\w+))?/);
  if (row) {
    const line = form.querySelectorAll(`[data-row="${CSS.escape(row[1])}"]`)[Number(row[2] ?? row[3])];
    const part = line && (line.querySelector(`[data-part="${CSS.escape(row[4] || "")}"]`) || line.querySelector("[data-part]"));
    if (part) return part;
  }
  for (let name = path.replace(/\[.*$/, ""); name; name = name.includes(".") ? name.slice(0, name.lastIndexOf(".")) : "") {
    const found = named(name) || form.querySelector(`[data-row="${CSS.escape(name)}"] [data-part]`);
    if (found) return found;
  }
  return null;
}

function firstWrong(form) {
  form.querySelector("[aria-invalid]")?.focus();
}

function sound(form) {
  clearWrong(form);
  for (const field of form.elements) {
    if (field.matches(":disabled") || !field.validity || field.validity.valid) continue;
    const bad = field.validity;
    const code = bad.valueMissing ? "missing" : bad.rangeUnderflow ? "greater_than_equal" : bad.rangeOverflow ? "less_than_equal"
      : bad.badInput || bad.stepMismatch ? "int_parsing" : bad.tooLong ? "string_too_long" : "string_pattern_mismatch";
    wrong(field, say(`invalid.${code}`, { ge: field.min, le: field.max, max_length: field.maxLength }) || field.validationMessage);
  }
  firstWrong(form);
  return !form.querySelector(".wrong");
}

function blame(form, answer) {
  clearWrong(form);
  const found = Array.isArray(answer.detail)
    ? answer.detail.map((one) => [one.loc.slice(one.loc[0] === "body" ? 1 : 0).join("."), say(`invalid.${one.type}`, one.ctx) || one.msg])
    : answer.field ? [[answer.field, answer.code && say(answer.code, answer) || String(answer.detail)]] : [];
  const placed = found.map(([path, text]) => [fieldOf(form, path), text]);
  if (!placed.length || placed.some(([field]) => !field)) return false;
  placed.forEach(([field, text]) => wrong(field, text));
  firstWrong(form);
  return true;
}

// ---------------------------------------------------------------- parts that come and go, lines of lists

function adapt(form) {
  for (const part of form.querySelectorAll("[data-when]")) {
    const [name, wanted] = part.dataset.when.split("=");
    const chosen = [...form.elements].find((one) => one.name === name && (one.type !== "radio" || one.checked))?.value;
    const isOn = wanted.split("|").includes(chosen);
    part.hidden = !isOn;
    part.disabled = !isOn;
  }
}

document.querySelectorAll("form").forEach(adapt);
document.addEventListener("change", (event) => { if (event.target.form) adapt(event.target.form); });
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-add]");
  if (!button) return;
  const rows = button.closest("form").querySelectorAll(`[data-row="${CSS.escape(button.dataset.add)}"]`);
  const fresh = rows[rows.length - 1].cloneNode(true);
  fresh.querySelectorAll(".wrong").forEach((one) => one.remove());
  fresh.querySelectorAll("[data-part]").forEach((field) => { field.value = ""; field.removeAttribute("aria-invalid"); });
  rows[rows.length - 1].after(fresh);
  fresh.querySelector("[data-part]").focus();
});

function reveal(form, answer) {
  const place = document.getElementById(form.dataset.reveal);
  place.hidden = false;
  for (const part of place.querySelectorAll("[data-told]")) {
    if ("value" in part) part.value = answer[part.dataset.told];
    else part.textContent = answer[part.dataset.told];
  }
  place.scrollIntoView({ block: "center" });
  place.querySelector("[data-told]").focus();
}
