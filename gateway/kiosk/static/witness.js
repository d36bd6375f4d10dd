// This device as a witness: it keeps the newest mark of the box it was shown, and presents it on each connection, until it is heard. A mark is replaced
// only by one that descends from it, so a box whose disk is an old image cannot make its witnesses forget.
const AGAIN_MS = 10000;

const read = (mark) => {
  const body = mark.split(".")[0].replaceAll("-", "+").replaceAll("_", "/");
  return JSON.parse(atob(body));
};

export function descends(older, newer) {
  try {
    const [before, now] = [read(older), read(newer)];
    if (before.box !== now.box) return true; // another box stands here now: nothing of the old one is known to it
    return (before.epoch === now.epoch ? now.seq : now.past[before.epoch] ?? -1) >= before.seq;
  } catch {
    return false;
  }
}

export class Witness {
  #name;
  #station;
  #presented = -AGAIN_MS;
  #later = null;

  constructor(station) {
    this.#station = station;
    this.#name = `mark:${station}`;
  }

  // The box is shown; `admitted` as it says itself.
  heed(mark, admitted) {
    if (!mark || mark === this.#kept()) return;
    if (!this.#kept() || descends(this.#kept(), mark)) return this.#keep(mark);
    if (!admitted || this.#later !== null) return;
    // Headquarters may have told it by now what ours was.
    this.#later = setTimeout(() => this.present(), Math.max(0, this.#presented + AGAIN_MS - performance.now()));
  }

  async present() {
    clearTimeout(this.#later);
    this.#later = null;
    this.#presented = performance.now();
    const kept = this.#kept();
    try {
      const response = await fetch("/v1/witness", {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ station: this.#station, mark: kept }),
        signal: AbortSignal.timeout(8000),
      });
      if (response.status >= 500) this.#again();
      if (!response.ok) return;
      const { word, mark } = await response.json();
      if (word === "nothing" && kept) localStorage.removeItem(this.#name);
      if (mark && (word === "nothing" || descends(kept, mark))) this.#keep(mark);
      if (mark && !kept && this.#kept()) await this.present(); // shows the box that this device keeps marks
    } catch {
      this.#again(); // sooner, if there is a new connection before
    }
  }

  #again() {
    this.#later ??= setTimeout(() => this.present(), AGAIN_MS);
  }

  #kept() {
    try {
      return localStorage.getItem(this.#name) ?? "";
    } catch {
      return "";
    }
  }

  #keep(mark) {
    try {
      localStorage.setItem(this.#name, mark);
    } catch {
      // A browser that keeps nothing is no witness.
    }
  }
}
