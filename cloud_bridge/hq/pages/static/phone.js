// A shopper's voucher. The secret of its link stands behind # and goes out only in the body of a request to headquarters.
"use strict";

const KEPT = "sgw.vouchers"; // voucher id -> {secret, title}: what a shop's QR code is answered with
const main = document.getElementById("main");
const blob = /^\/[gG]\/([^/]+)$/.exec(location.pathname)?.[1] ?? "";
const voucher = decodeURIComponent(/^\/v\/([^/]+)$/.exec(location.pathname)?.[1] ?? "");

const STATES = {
  free: ["可使用", "Ready to use"], assigned: ["已由門市保留", "Held by a shop"], requested: ["處理中", "Being changed"],
  used: ["已使用", "Used"], revoked: ["已作廢", "Cancelled"], refunded: ["已退款", "Refunded"],
};

function kept() {
  try {
    return JSON.parse(localStorage.getItem(KEPT)) ?? {};
  } catch {
    return {};
  }
}

function keep(all) {
  try {
    localStorage.setItem(KEPT, JSON.stringify(all));
    return true;
  } catch {
    return false; // a private window: the link still works, a shop's QR code does not
  }
}

function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const english = (text) => el("span", { lang: "en" }, text);
const words = (name, zh, en, attributes = {}) => el(name, attributes, zh, " ", english(en));
const both = (name, text, attributes = {}) => words(name, text.zh, text.en, attributes);

function show(look, ...children) {
  main.className = look;
  delete main.dataset.reason;
  main.replaceChildren(...children);
}

function picture(address, zh) {
  return el("img", { class: "code", alt: zh, src: address });
}

async function post(address, body) {
  try {
    const answer = await fetch(address, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), credentials: "omit", referrerPolicy: "no-referrer" });
    const told = await answer.json();
    if (answer.ok) return { told };
    if (told.message) return { refused: told };
  } catch {
    // no line: said below
  }
  return { refused: { reason: "away", message: { zh: "連不上總部", en: "Headquarters cannot be reached" }, next_step: { zh: "請確認手機的網路後再試", en: "Check the phone's connection and try again" } } };
}

function drawRefused(refused) {
  const parts = [both("h1", refused.message)];
  if (refused.shop?.zh) parts.push(words("p", `門市：${refused.shop.zh}`, `Shop: ${refused.shop.en}`, { id: "shop" }));
  parts.push(both("p", refused.next_step));
  show("refused", ...parts);
  main.dataset.reason = refused.reason;
}

function drawVoucher(told) {
  const [zh, en] = STATES[told.state] ?? [told.state, told.state];
  const until = new Date(told.not_after_s * 1000).toLocaleDateString("zh-TW");
  const parts = [both("h1", told.title), words("p", zh, en, { class: "state", "data-state": told.state })];
  if (told.message) parts.push(both("p", told.message));
  for (const shop of told.shops) parts.push(words("p", `保留於 ${shop.zh}`, `Held by ${shop.en}`, { class: "holder" }));
  parts.push(picture(told.qr, "票券 QR 碼"));
  parts.push(words("p", "此券沒有可輸入的代碼：掃描器讀不到時，請調亮螢幕，或請店員以手機掃描。", "This voucher has no letters to type: if a scanner cannot read it, brighten your screen, or have our staff scan it with their phone.", { id: "no-letters" }));
  parts.push(words("p", `剩餘 ${told.left} 次，使用期限 ${until}`, `${told.left} left, good until ${until}`));
  parts.push(words("p", "門市離線時，請用手機相機掃描門市畫面上的 QR 碼。", "If the shop is offline, scan the QR code on its screen with this phone's camera."));
  show("voucher", ...parts);
}

function drawPass(told) {
  const until = new Date(told.not_after_s * 1000).toLocaleTimeString("zh-TW", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  show("pass", words("h1", "請出示此授權碼", "Show this pass"), words("p", `僅限 ${told.shop.zh}`, `For ${told.shop.en} only`, { id: "shop" }),
    picture(told.qr, "授權碼 QR 碼"), words("p", `請於 ${until} 前使用`, `Use it before ${until}`));
  main.dataset.code = told.code;
}

function drawChoice(shop, all) {
  const parts = [words("h1", "要使用哪一張票券？", "Which voucher?"), words("p", `門市：${shop.zh}`, `Shop: ${shop.en}`, { id: "shop" })];
  for (const [id, one] of Object.entries(all)) {
    const button = both("button", one.title, { type: "button", class: "main" });
    button.addEventListener("click", () => fetchPass(id, one.secret));
    parts.push(button);
  }
  show("choice", ...parts);
}

async function fetchPass(id, secret) {
  offerToForget(id);
  const { told, refused } = await post(`/v/${encodeURIComponent(id)}/grant`, { secret, asking: blob });
  return told ? drawPass(told) : drawRefused(refused);
}

function offerToForget(id) {
  document.getElementById("kept").hidden = false;
  document.getElementById("forget").onclick = () => {
    const all = kept();
    delete all[id];
    keep(all);
    document.getElementById("kept").hidden = true;
    show("gone", words("h1", "已從這支手機刪除", "Deleted from this phone"), words("p", "票券本身不受影響，可再開啟原連結。", "The voucher itself is untouched; its link opens it again."));
  };
}

async function openVoucher() {
  const secret = location.hash.slice(1) || kept()[voucher]?.secret || "";
  const { told, refused } = await post(`/v/${encodeURIComponent(voucher)}/show`, { secret });
  if (!told) return drawRefused(refused);
  if (keep({ ...kept(), [voucher]: { secret, title: told.title } })) {
    history.replaceState(null, "", location.pathname); // out of the address and of what people copy by mistake
    offerToForget(voucher);
  }
  drawVoucher(told);
}

async function openShop() {
  const { told, refused } = await post("/g/shop", { asking: blob });
  if (!told) return drawRefused(refused);
  const all = kept();
  if (told.voucher_id && all[told.voucher_id]) return fetchPass(told.voucher_id, all[told.voucher_id].secret);
  if (!told.voucher_id && Object.keys(all).length) return drawChoice(told.shop, all);
  drawRefused({ reason: "not_here", shop: told.shop, message: { zh: "這個瀏覽器還沒開過這張票券", en: "This browser has not opened the voucher yet" },
    next_step: { zh: "請在下方貼上票券連結", en: "Please paste the voucher's link below" } });
  main.append(pasteLink());
}

// A messenger opens links in a browser of its own, whose memory the camera's browser cannot see: the link itself goes across.
function pasteLink() {
  const field = el("input", { id: "link", type: "text", inputmode: "url", autocomplete: "off", "aria-label": "票券連結 Voucher link", placeholder: "https://…/v/…#…" });
  const form = el("form", {}, field, words("button", "取得授權碼", "Get the pass", { type: "submit", class: "main" }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const [, id, secret] = /\/v\/([^/#]+)#([0-9a-f]{32})\s*$/.exec(field.value) ?? [];
    if (!id) return field.focus();
    keep({ ...kept(), [id]: { secret, title: { zh: "票券", en: "Voucher" } } });
    fetchPass(id, secret);
  });
  return form;
}

if (blob) openShop();
else openVoucher();
