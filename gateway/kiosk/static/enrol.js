// Follows enrolment: shows each new state, and the shop's own page once it is there. What somebody types is left alone.
"use strict";

const shown = Number(document.body.dataset.number);
const code = document.getElementById("code");

async function look() {
  try {
    const answer = await fetch("/enroll/state", { cache: "no-store" });
    if (!answer.ok) return location.reload(); // core is up
    const now = await answer.json();
    if (now.number !== shown && !code.value) return location.reload();
  } catch {
    // between this page and core nobody listens for a moment
  }
  setTimeout(look, 700);
}

setTimeout(look, 700);
