// The check-in code of this screen: another one each half minute, none while nobody can see the page.
const ROTATES_MS = 30000;
const AGAIN_MS = 5000;

export function rotateCheckIn(figure, station) {
  let timer, shown = "";
  const draw = async () => {
    clearTimeout(timer);
    if (document.hidden) return; // it begins again when the page is seen
    let found = null;
    try {
      const response = await fetch(`/v1/stations/${encodeURIComponent(station)}/checkin.svg`, { signal: AbortSignal.timeout(4000) });
      if (response.ok) found = URL.createObjectURL(await response.blob());
    } catch {
      // Core is away: an old code is worth nothing, so none is shown.
    }
    figure.querySelector("img").src = found ?? "";
    figure.hidden = found === null;
    if (shown) URL.revokeObjectURL(shown);
    shown = found ?? "";
    timer = setTimeout(draw, found ? ROTATES_MS - (Date.now() % ROTATES_MS) + 300 : AGAIN_MS);
  };
  document.addEventListener("visibilitychange", draw);
  draw();
}
