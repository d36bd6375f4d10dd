// A member's points, with the time of which they are.
import { dayTime, el, t } from "./words.js";

// Points of long ago are greyed, and the words say so too.
export function drawPoints(member) {
  const when = member.as_of_s ? dayTime(member.as_of_s * 1_000_000) : "";
  return el("p", { class: `points${member.is_stale ? " stale" : ""}` }, el("b", {}, `${t("result.points")} ${member.points}`), ` ${t(member.is_stale ? "result.points.stale" : "result.points.as_of")} ${when}`);
}
