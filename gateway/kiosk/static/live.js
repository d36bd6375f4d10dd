// Follow core: the whole view at each change, a beat when nothing changes. Beats that stop mean core is lost; then try again for ever.
const SILENCE_MS = 10000;
const GRACE_MS = 1500; // a restart of core this short is nobody's business
const AGAIN_MS = 1000;

export function follow(address, onView, onLost, onOpen = () => {}) {
  let source, silence, grace, lost = false;

  const tell = (now) => {
    if (now !== lost) onLost((lost = now));
  };
  const alive = () => {
    clearTimeout(silence);
    clearTimeout(grace);
    grace = null;
    tell(false);
    silence = setTimeout(again, SILENCE_MS);
  };
  const missing = () => {
    grace ??= setTimeout(() => tell(true), GRACE_MS);
  };
  // Core answered, and refused: this device or this box may have been revoked. The page itself then says so.
  const shutOut = () => fetch(location.pathname).then((page) => page.status === 403 && location.reload(), () => {});
  const again = () => {
    clearTimeout(silence);
    source.close();
    missing();
    setTimeout(open, AGAIN_MS);
  };
  const open = () => {
    source = new EventSource(address);
    silence = setTimeout(again, SILENCE_MS);
    source.addEventListener("open", onOpen);
    source.addEventListener("view", (event) => {
      alive();
      onView(JSON.parse(event.data));
    });
    source.addEventListener("beat", alive);
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) shutOut();
      again();
    });
  };
  open();
  return { reopen: () => (source.close(), open()) }; // as somebody else: the browser has a new key
}
