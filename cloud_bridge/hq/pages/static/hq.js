"use strict";
// Swaps in what the server renders, posts what buttons and forms say. Nothing is rendered here.

const notice = document.querySelector("[data-notice]");

function complain(why) {
  notice.textContent = document.body.dataset.failed.replace("%", why);
  notice.hidden = false;
}

const words = JSON.parse(document.body.dataset.words || "{}");

function say(code, values = {}) {
  const text = words[code];
  return text && text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

function explain(detail) {
  return Array.isArray(detail) ? detail.map((one) => `${one.loc.at(-1)}: ${say(`invalid.${one.type}`, one.ctx) || one.msg}`).join("; ") : String(detail);
}

async function post(path, body, form = null, method = "POST") {
  notice.hidden = true;
  let response;
  try {
    response = await fetch(path, { method, headers: { "Content-Type": "application/json" }, body });
  } catch {
    notice.textContent = document.body.dataset.unreachable;
    notice.hidden = false;
    return null;
  }
  const answer = await response.json().catch(() => ({ detail: response.status }));
  if (!response.ok) {
    if (!form || !blame(form, answer)) complain(answer.code && say(answer.code, answer) || explain(answer.detail));
    return null;
  }
  return answer;
}

function confirmOn(button) {
  if (!button.dataset.done) return;
  const before = button.textContent;
  button.textContent = button.dataset.done;
  setTimeout(() => { button.textContent = before; }, 1500);
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.sure && !("asked" in button.dataset)) {
    const before = button.textContent;
    button.dataset.asked = "";
    button.textContent = button.dataset.sure;
    setTimeout(() => { delete button.dataset.asked; button.textContent = before; }, 4000);
    return;
  }
  delete button.dataset.asked;
  if (button.dataset.post) {
    button.disabled = true;
    const answer = await post(button.dataset.post, button.dataset.body || "{}", null, button.dataset.method || "POST");
    button.disabled = false;
    if (answer && answer.decision === "refused") {
      complain(document.documentElement.lang === "en" ? answer.message.en : answer.message.zh);
    } else if (answer && button.dataset.go) {
      location.assign(button.dataset.go);
    } else if (answer) {
      confirmOn(button);
    }
  } else if (button.dataset.copy) {
    const field = document.getElementById(button.dataset.copy);
    field.select();
    try { await navigator.clipboard.writeText(field.value); } catch { document.execCommand("copy"); }
    confirmOn(button);
  }
});

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.send) return;
  event.preventDefault();
  if (!sound(form)) return;
  const { check, ...body } = collect(form); // what a form only tries is not sent
  const answer = await post(form.dataset.send.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(form.elements[name].value)), JSON.stringify(body), form, form.dataset.method || "POST");
  if (!answer) return;
  if (form.dataset.reveal) reveal(form, answer);
  else location.assign(form.dataset.then.replace(/\{(\w+)\}/, (_, key) => answer[key]));
});

function swap(part, html) {
  if (part.querySelector("[data-asked]:not(:disabled)")) return; // a finger hovers over it
  const focused = document.activeElement && part.contains(document.activeElement) ? document.activeElement.id : "";
  part.innerHTML = html;
  if (focused) document.getElementById(focused)?.focus();
}

function prepend(list, html) {
  const draft = document.createElement("template");
  draft.innerHTML = html;
  const rows = [...draft.content.querySelectorAll("li")].filter((row) => !list.querySelector(`[data-row="${CSS.escape(row.dataset.row)}"]`));
  rows.forEach((row) => row.classList.add("new"));
  list.prepend(...rows);
  while (list.children.length > Number(list.dataset.most)) list.lastElementChild.remove();
}

const streaming = document.querySelector("[data-stream]");
if (streaming) {
  const pulse = document.querySelector("[data-pulse]");
  const source = new EventSource(streaming.dataset.stream);
  const show = (live) => {
    pulse.hidden = false;
    pulse.classList.toggle("lost", !live);
    pulse.querySelector("[data-live]").hidden = !live;
    pulse.querySelector("[data-lost]").hidden = live;
  };
  source.onopen = () => show(true);
  source.onerror = () => show(false);
  for (const part of document.querySelectorAll("[data-part]")) {
    source.addEventListener(part.dataset.part, (message) => {
      const html = JSON.parse(message.data);
      if ("most" in part.dataset) prepend(part, html);
      else swap(part, html);
    });
  }
}
