// Ask core to decide. The same presentation id goes with every retry, also after a reload, so asking again can never decide twice.
const ATTEMPTS = 4;
const PATIENCE_MS = 8000;
const PENDING = "pending";

export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export async function ask(address, body) {
  const text = JSON.stringify(body);
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    if (attempt) await new Promise((done) => setTimeout(done, 700 * attempt));
    try {
      const response = await fetch(address, {
        method: "POST", headers: { "content-type": "application/json" }, body: text, signal: AbortSignal.timeout(PATIENCE_MS),
      });
      if (response.status >= 500) continue;
      const found = await response.json();
      return response.ok ? { answer: found } : { refused: found, status: response.status };
    } catch {
      // No answer is no decision we know of: ask again.
    }
  }
  return { silent: true };
}

// One presentation at a time; remembered until answered, then forgotten for good.
export async function present(address, body) {
  sessionStorage.setItem(PENDING, JSON.stringify({ address, body }));
  const outcome = await ask(address, body);
  if (!outcome.silent) forget();
  return outcome;
}

export const forget = () => sessionStorage.removeItem(PENDING);

export function pending() {
  try {
    return JSON.parse(sessionStorage.getItem(PENDING));
  } catch {
    return null;
  }
}
