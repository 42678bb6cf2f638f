// Times, ages and states in words.

/** @typedef {"utc"|"local"} Zone */

export const DAY_MS = 86_400_000;

/** @param {number} number */
const two = (number) => String(number).padStart(2, "0");

/**
 * Return a moment as "2026-11-21 20:33" in a zone.
 * @param {number} ms
 * @param {Zone} zone
 */
export function timeText(ms, zone) {
  const time = new Date(ms);
  if (zone === "utc") {
    return time.toISOString().slice(0, 16).replace("T", " ");
  }
  const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${day} ${two(time.getHours())}:${two(time.getMinutes())}`;
}

/**
 * Return when a bar opened. Bars of a day and more are bars of UTC days, in every zone.
 * @param {number} ms
 * @param {number|null} lengthMs Of the interval; null for months.
 * @param {Zone} zone
 */
export function openText(ms, lengthMs, zone) {
  if (lengthMs === null || lengthMs >= DAY_MS) {
    return `${timeText(ms, "utc").slice(0, 10)} UTC`;
  }
  return `${timeText(ms, zone)} ${zone === "utc" ? "UTC" : "local"}`;
}

/**
 * Return an age in words, coarse enough not to change all the time.
 * @param {number} ms
 */
export function ageText(ms) {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 5) return "< 5 s";
  if (seconds < 60) return `${seconds - (seconds % 5)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 2 * 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/**
 * Return what a bar says of itself.
 * @param {import("./bars.js").Kline} kline
 */
export function stateText(kline) {
  const words = [
    kline.is_final ? "final" : "open",
    kline.is_complete ? "proved complete" : "not proved complete",
    kline.origin,
  ];
  if (kline.revision > 0) words.push(`corrected, revision ${kline.revision}`);
  return words.join(", ");
}
