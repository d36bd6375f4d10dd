// Words in both languages are on board; switching asks nobody. Texts of core come as {zh, en}.
const texts = JSON.parse(document.getElementById("texts").textContent);
const FIRST = "zh-Hant";
let lang = document.documentElement.lang in texts ? document.documentElement.lang : FIRST;

export const language = () => lang;
export const t = (key) => texts[lang][key] ?? key;
export const other = (key) => texts[lang === "en" ? FIRST : "en"][key] ?? key;
export const pick = (text) => (text ? (lang === "en" ? text.en || text.zh : text.zh || text.en) : "");

export function setLanguage(next) {
  lang = next;
  document.documentElement.lang = next;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-t-label]")) node.setAttribute("aria-label", t(node.dataset.tLabel));
  for (const node of document.querySelectorAll("[data-t-alt]")) node.alt = t(node.dataset.tAlt);
  for (const node of document.querySelectorAll("[data-zh]")) node.textContent = next === "en" ? node.dataset.en : node.dataset.zh;
  // In the address, so that a reload keeps it and a new customer's screen does not.
  history.replaceState(null, "", next === FIRST ? location.pathname : `?lang=${next}`);
  document.dispatchEvent(new Event("language"));
}

export const resetLanguage = () => lang !== FIRST && setLanguage(FIRST);

document.getElementById("language")?.addEventListener("click", () => setLanguage(lang === "en" ? FIRST : "en"));

const zone = document.body.dataset.timezone || undefined;
export const clockTime = (us, seconds = false) =>
  new Intl.DateTimeFormat(lang === "en" ? "en-GB" : "zh-TW", {
    hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: zone, ...(seconds ? { second: "2-digit" } : {}),
  }).format(us / 1000);
export const dayTime = (us) =>
  new Intl.DateTimeFormat(lang === "en" ? "en-GB" : "zh-TW", {
    month: lang === "en" ? "short" : "numeric", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: zone,
  }).format(us / 1000);

// Everything shown is made of nodes and text; no page ever sets innerHTML, so no title can bring markup.
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== false && value !== null) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null && child !== ""));
  return node;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}
