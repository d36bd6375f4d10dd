// Tell core which accepted redemptions were really painted. Core keeps it: what was never painted, staff may honour.
import { ask } from "./present.js";

const unsent = new Map(); // redemption to station: core may be away just now

// Two frames: the first is drawn with what was just put into the page, the second begins once that one is on the glass. A hidden page has none.
export function painted(station, answer, stillThere) {
  if (answer.decision !== "redeemed" || answer.practice || !answer.redemption_id) return;
  requestAnimationFrame(() => requestAnimationFrame(() => {
    if (document.visibilityState !== "visible" || !stillThere()) return;
    unsent.set(answer.redemption_id, station);
    send(answer.redemption_id);
  }));
}

export const confirmAgain = () => [...unsent.keys()].forEach(send); // the line to core is open again

async function send(redemptionId) {
  const outcome = await ask("/v1/shown", { station: unsent.get(redemptionId), redemption_id: redemptionId });
  if (!outcome.silent) unsent.delete(redemptionId);
}
