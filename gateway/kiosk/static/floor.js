// The floor plan: zones with tags and strangers, kiosks, the locker wall. Drawn once for a shape of shop, then only moved and coloured.
import { language, t } from "./words.js";

const NS = "http://www.w3.org/2000/svg";
const W = 900, H = 690;
const ZONES = { x: 34, y: 34, w: 832, h: 316, gap: 18 };
const WALL = { x: 400, y: 392, w: 466, h: 226 };
const TINTS = ["#e8f1f2", "#fdf0e1", "#eef3e6", "#f3ecf5", "#e9eefa", "#fbeaea"];

export function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const text = (x, y, look, words, anchor = "start") => svg("text", { x, y, class: look, "text-anchor": anchor }, words);
const nameOf = (thing) => (language() === "en" ? thing.name_en || thing.name_zh : thing.name_zh || thing.name_en);

// A repeatable scatter: the same stranger's dot stays where it is while the estimate moves.
function scatter(seed) {
  let value = seed * 2654435761 + 97;
  return () => {
    value = (value * 1664525 + 1013904223) >>> 0;
    return value / 2 ** 32;
  };
}

// Places for strangers: apart from each other and clear of the corner where names stand, as far as there is room.
function spots(box, count, seed) {
  const random = scatter(seed);
  const found = [];
  for (let n = 0; n < count; n++) {
    let spot;
    for (let attempt = 0; attempt < 20; attempt++) {
      spot = [box.x + 22 + random() * (box.w - 44), box.y + 74 + random() * (box.h - 146)];
      const named = spot[0] < box.x + 175 && spot[1] < box.y + 150;
      if (!named && found.every(([x, y]) => Math.hypot(x - spot[0], y - spot[1]) > 19)) break;
    }
    found.push(spot);
  }
  return found;
}

export class Floor {
  constructor(root, stations) {
    this.root = root;
    this.stations = stations;
    root.setAttribute("viewBox", `0 0 ${W} ${H}`);
  }

  draw(view) {
    const shape = JSON.stringify([language(), view.zones.map((z) => z.zone), view.compartments.map((c) => [c.bank, c.compartment])]);
    if (shape !== this.shape) this.build(view);
    this.shape = shape;
    view.zones.forEach((zone, i) => this.drawZone(zone, i));
    this.drawSubjects(view.zones);
    for (const compartment of view.compartments) this.drawDoor(compartment);
    for (const screen of view.screens) this.drawKiosk(screen);
  }

  build(view) {
    this.boxes = boxesFor(view.zones.length);
    this.subjects = new Map();
    this.doors = new Map();
    this.kiosks = new Map();
    this.zoneParts = view.zones.map((zone, i) => this.buildZone(zone, i));
    this.people = svg("g", { class: "people" });
    this.root.replaceChildren(
      ...shell(), ...this.zoneParts.map((part) => part.group), ...this.buildKiosks(), ...this.buildWall(view.compartments), this.people,
    );
  }

  buildZone(zone, i) {
    const box = this.boxes[i];
    const strangers = svg("g", { class: "strangers" });
    const pill = svg("g", { class: "pill" }, svg("rect", { x: box.x + 14, y: box.y + box.h - 50, width: box.w - 28, height: 36, rx: 18 }));
    const words = text(box.x + box.w / 2, box.y + box.h - 26, "pill-words", "", "middle");
    pill.append(words);
    const group = svg(
      "g", { class: "zone" }, svg("rect", { class: "zone-floor", x: box.x, y: box.y, width: box.w, height: box.h, rx: 18, fill: TINTS[i % TINTS.length] }),
      ...furniture(box, i), text(box.x + 20, box.y + 34, "zone-name", nameOf(zone)),
      text(box.x + 20, box.y + 54, "zone-second", language() === "en" ? zone.name_zh : zone.name_en), strangers, pill,
    );
    return { group, strangers, words };
  }

  drawZone(zone, i) {
    const { strangers, words } = this.zoneParts[i];
    const box = this.boxes[i];
    const few = zone.estimate === null;
    const high = zone.estimated_us && !few ? Math.min(Math.ceil(zone.high), 60) : 0;
    words.textContent = !zone.estimated_us ? t("glance.zone.none") : few ? t("glance.zone.few")
      : t("glance.zone.about").replace("{low}", Math.round(zone.low)).replace("{high}", Math.round(zone.high));
    if (strangers.childElementCount !== high) {
      strangers.replaceChildren(...spots(box, high, i + 1).map(([x, y]) => svg("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: 6 })));
    }
    [...strangers.children].forEach((dot, n) => dot.classList.toggle("maybe", n >= Math.round(zone.low)));
  }

  drawSubjects(zones) {
    const seen = new Set();
    zones.forEach((zone, i) => {
      zone.subjects.forEach((subject, n) => {
        seen.add(subject);
        const box = this.boxes[i];
        const [x, y] = [box.x + 36 + (n > 4 ? box.w / 2 : 0), box.y + 90 + (n % 5) * 36];
        let dot = this.subjects.get(subject);
        if (!dot) {
          dot = subjectDot(subject, x, y);
          this.subjects.set(subject, dot);
          this.people.append(dot);
          fit(dot);
        }
        dot.style.transform = `translate(${x}px, ${y}px)`;
        dot.dataset.zone = zone.zone;
      });
    });
    for (const [subject, dot] of this.subjects) {
      if (seen.has(subject)) continue;
      dot.remove();
      this.subjects.delete(subject);
    }
  }

  buildKiosks() {
    const wide = 330 / Math.max(1, this.stations.length);
    return this.stations.map((station, i) => {
      const x = 44 + wide * i + wide / 2;
      const screen = svg("rect", { class: "kiosk-screen", x: x - 44, y: 420, width: 88, height: 64, rx: 8 });
      const sign = text(x, 461, "kiosk-sign", "", "middle");
      const words = text(x, 402, "kiosk-words", "", "middle");
      this.kiosks.set(station.name, { screen, sign, words });
      return svg(
        "a", { href: `/kiosk/${station.name}`, class: "kiosk-figure" }, svg("rect", { class: "kiosk-body", x: x - 52, y: 412, width: 104, height: 80, rx: 13 }), screen, sign,
        svg("path", { class: "kiosk-foot", d: `M${x - 11} 492h22l5 44h-32zM${x - 34} 536h68v9h-68z` }), words,
        text(x, 570, "kiosk-name", language() === "en" ? station.en : station.zh, "middle"),
      );
    });
  }

  drawKiosk(screen) {
    const parts = this.kiosks.get(screen.station);
    if (!parts) return;
    const [look, sign, key] = KIOSK[screen.state] ?? KIOSK.attract;
    parts.screen.setAttribute("class", `kiosk-screen ${look}`);
    parts.sign.textContent = sign;
    parts.words.textContent = t(key);
  }

  buildWall(compartments) {
    const columns = compartments.length > 16 ? 12 : Math.max(1, Math.min(8, compartments.length));
    const rows = Math.max(1, Math.ceil(compartments.length / columns));
    const [w, h] = [(WALL.w - 16) / columns, (WALL.h - 44) / rows];
    const doors = compartments.map((one, i) => {
      const [x, y] = [WALL.x + 8 + (i % columns) * w, WALL.y + 36 + Math.floor(i / columns) * h];
      const door = buildDoor(x + 3, y + 3, w - 6, h - 6, one.compartment);
      this.doors.set(`${one.bank}/${one.compartment}`, door);
      return door.group;
    });
    return [
      svg("rect", { class: "wall-body", x: WALL.x, y: WALL.y, width: WALL.w, height: WALL.h, rx: 14 }),
      text(WALL.x + 16, WALL.y + 25, "wall-name", t("wall.title")), ...doors, ...legend(),
    ];
  }

  drawDoor(one) {
    const door = this.doors.get(`${one.bank}/${one.compartment}`);
    const state = doorLook(one);
    door.group.setAttribute("class", `door ${state}`);
    const open = state === "open"; // its leaf stands at the left, so words move to the right
    door.number.setAttribute("x", open ? door.x + door.w * 0.32 : door.x + 7);
    door.order.setAttribute("x", door.x + door.w * (open ? 0.62 : 0.5));
    door.sign.textContent = { jammed: "!", opening: "…" }[state] ?? "";
    door.order.textContent = one.order_number;
    door.hint.textContent = `${one.compartment}: ${t(DOOR_WORDS[state])} ${one.order_number}`.trim();
  }
}

const KIOSK = {
  attract: ["", "QR", "glance.kiosk.free"],
  pending: ["busy", "…", "glance.kiosk.pending"],
  redeemed: ["good", "✓", "glance.kiosk.redeemed"],
  refused: ["bad", "!", "glance.kiosk.refused"],
  recognised: ["good", "✓", "glance.kiosk.recognised"],
  show_member: ["busy", "QR", "glance.kiosk.show_member"],
  join_next: ["busy", "QR", "glance.kiosk.join_next"],
  joined: ["good", "✓", "glance.kiosk.joined"],
  not_joined: ["", "✓", "glance.kiosk.not_joined"],
  consent_withdrawn: ["", "✓", "glance.kiosk.consent_withdrawn"],
  collecting: ["busy", "▮", "glance.kiosk.collecting"],
  collected: ["good", "✓", "glance.kiosk.collected"],
  staging: ["busy", "▮", "glance.kiosk.staging"],
  staged: ["good", "✓", "glance.kiosk.staged"],
};

const DOOR_WORDS = { free: "wall.free", loaded: "wall.loaded", opening: "wall.opening", open: "wall.open", jammed: "wall.jammed", reserved: "wall.reserved" };

// Words of core's state machine, told in six looks; what the sensor says goes before what should be.
export function doorLook({ state, door }) {
  const name = state.toLowerCase();
  if (/jam|fault|forced|unknown|out|ajar/.test(name)) return "jammed";
  if (door === "open" || /(^|_)open$/.test(name)) return "open";
  if (name.includes("opening")) return "opening";
  if (/loaded|expired|staged/.test(name)) return "loaded";
  return name.includes("reserved") ? "reserved" : "free";
}

function boxesFor(count) {
  const columns = count <= 4 ? Math.max(1, count) : Math.ceil(count / 2);
  const rows = Math.max(1, Math.ceil(count / columns));
  const [w, h] = [(ZONES.w - ZONES.gap * (columns - 1)) / columns, (ZONES.h - ZONES.gap * (rows - 1)) / rows];
  return Array.from({ length: count }, (_, i) => ({
    x: ZONES.x + (i % columns) * (w + ZONES.gap), y: ZONES.y + Math.floor(i / columns) * (h + ZONES.gap), w, h,
  }));
}

function shell() {
  return [
    svg("rect", { class: "ground", x: 8, y: 8, width: W - 16, height: H - 52, rx: 26 }),
    svg("path", { class: "entrance", d: "M120 638h150" }),
    svg("path", { class: "entrance-leaf", d: "M120 638v-40M270 638v-40M120 598a40 40 0 0140 40M270 598a40 40 0 00-40 40" }),
    text(195, 672, "entrance-name", t("glance.entrance"), "middle"),
  ];
}

function furniture(box, i) {
  const kinds = [
    [0.62, 0.16, 0.3, 10], [0.62, 0.23, 0.3, 10],
  ];
  const shelf = ([x, y, w, h]) => svg("rect", { class: "shelf", x: box.x + box.w * x, y: box.y + box.h * y - (i % 2) * 6, width: box.w * w, height: h, rx: 4 });
  return box.h > 200 ? kinds.map(shelf) : [];
}

// A label is as wide as its name, which only the browser can measure.
const fit = (dot) => dot.querySelector("rect").setAttribute("width", dot.querySelector("text").getComputedTextLength() + 44);

function subjectDot(subject, x, y) {
  const dot = svg(
    "g", { class: "subject" }, svg("circle", { class: "halo", r: 15 }), svg("rect", { x: -15, y: -15, width: 60, height: 30, rx: 15 }),
    svg("circle", { class: "core", r: 8 }), text(16, 5, "subject-name", subject),
  );
  dot.style.transform = `translate(${x}px, ${y}px)`;
  return dot;
}

function buildDoor(x, y, w, h, number) {
  const sign = text(x + w / 2, y + h / 2 + 12, "door-sign", "", "middle");
  const order = text(x + w / 2, y + h - 9, "door-order", "", "middle");
  const hint = svg("title");
  const parcel = svg("path", { class: "parcel", d: `M${x + w / 2} ${y + h / 2 - 13}l14 7v14l-14 7-14-7v-14zm-14 7l14 7 14-7m-14 7v14` });
  const leaf = svg("path", { class: "leaf", d: `M${x} ${y}l${w * 0.23} ${h * 0.09}v${h * 0.91}H${x}z` });
  const digits = text(x + 7, y + 16, "door-number", String(number));
  const group = svg(
    "g", { class: "door free" }, hint, svg("rect", { class: "frame", x, y, width: w, height: h, rx: 6 }), leaf, parcel,
    digits, svg("rect", { class: "handle", x: x + w - 8, y: y + h / 2 - 8, width: 3, height: 16, rx: 1.5 }), sign, order,
  );
  return { group, sign, order, hint, number: digits, x, w };
}

function legend() {
  const looks = ["free", "loaded", "opening", "open", "jammed"];
  return looks.flatMap((look, i) => {
    const x = WALL.x + 4 + i * 94;
    return [
      svg("g", { class: `door key ${look}` }, svg("rect", { class: "frame", x, y: 657, width: 16, height: 16, rx: 4 })),
      text(x + 22, 671, "legend", t(DOOR_WORDS[look])),
    ];
  });
}
