// Follows enrolment and shows how far it has come; reads the label in a photo, here in the page. What somebody pastes is left alone.
const $ = (id) => document.getElementById(id);
const LOOK_MS = 700;
let shown = Number(document.body.dataset.number);

function show(now) {
  shown = now.number;
  document.body.dataset.state = now.state;
  document.body.dataset.reason = now.reason;
  for (const place of document.querySelectorAll("[data-says]")) {
    const [part, language] = place.dataset.says.split(".");
    place.textContent = now.words[part][language];
  }
  document.title = now.words.text.zh;
  $("ways").hidden = now.state === "trying" || now.state === "enrolled";
}

async function look() {
  try {
    const answer = await fetch("/enroll/state", { cache: "no-store" });
    if (!answer.ok) return location.reload(); // core is up
    const now = await answer.json();
    if (now.number !== shown) show(now);
  } catch {
    // between this page and core nobody listens for a moment; a phone hears nothing more
  }
  setTimeout(look, LOOK_MS);
}

async function take() {
  const [picture] = $("photo").files;
  if (!picture) return;
  $("unread").hidden = true;
  $("reading").hidden = false;
  const found = await readLabel(picture);
  $("reading").hidden = true;
  $("photo").value = ""; // the same picture again is news again
  if (!found) return void ($("unread").hidden = false);
  $("code").value = found.code;
  $("form").submit();
}

async function readLabel(picture) {
  try {
    return await (await import("./read.js")).readPicture(picture);
  } catch {
    return null; // a browser without WebAssembly still takes a paste
  }
}

$("photo").addEventListener("change", take);
setTimeout(look, LOOK_MS);
