// What is written above and below the chart: the exact values of a bar, and what is proved of all.

import { openText, stateText, timeText } from "./text.js";

/** @typedef {import("./bars.js").Kline} Kline */

const VALUES = /** @type {const} */ ([
  ["O", "open", "open"],
  ["H", "high", "high"],
  ["L", "low", "low"],
  ["C", "close", "close"],
  ["V", "volume", "volume"],
  ["Quote", "quote_volume", "volume in the quote asset"],
  ["Trades", "trade_count", "number of trades"],
  ["Taker buy", "taker_buy_volume", "volume bought by takers"],
]);

export class Legend {
  constructor() {
    this._values = /** @type {HTMLElement} */ (document.getElementById("values"));
    this._state = /** @type {HTMLElement} */ (document.getElementById("bar-state"));
    this._time = addValue(this._values, "", "open time");
    this._cells = VALUES.map(([short, , long]) => addValue(this._values, short, long));
    this._change = addValue(this._values, "", "change from open to close");
  }

  /**
   * @param {Kline|undefined} kline
   * @param {number|null} lengthMs
   * @param {import("./text.js").Zone} zone
   */
  show(kline, lengthMs, zone) {
    const isUp = kline !== undefined && Number(kline.close) >= Number(kline.open);
    this._values.dataset.side = kline === undefined ? "" : isUp ? "up" : "down";
    setText(this._time, kline ? openText(kline.open_time, lengthMs, zone) : "");
    VALUES.forEach(([, name], index) => setText(this._cells[index], kline ? String(kline[name]) : ""));
    setText(this._change, kline ? changeText(kline) : "");
    setText(this._state, kline ? stateText(kline) : "");
    this._state.dataset.complete = String(kline?.is_complete ?? "");
  }

  /** Return what is shown, to be read out. */
  get spoken() {
    const values = VALUES.map(([, , long], index) => `${long} ${this._cells[index].textContent}`);
    return `${this._time.textContent}: ${values.slice(0, 5).join(", ")}; ${this._state.textContent}`;
  }
}

/**
 * Return what is known of the bars in view, in words.
 * @param {Kline[]} klines
 */
export function proofText(klines) {
  const complete = klines.filter((kline) => kline.is_complete).length;
  const corrected = klines.filter((kline) => kline.revision > 0).length;
  const settled = klines.filter((kline) => kline.origin === "settled").length;
  const bars = klines.length === 1 ? "bar" : "bars";
  const words = [`${klines.length} ${bars} in view: ${complete} proved complete`];
  if (complete < klines.length) words.push(`${klines.length - complete} not proved`);
  if (corrected > 0) words.push(`${corrected} corrected after they were final`);
  if (settled > 0) words.push(`${settled} settled to the exchange's own`);
  return words.join(", ");
}

const DIFFERENCES = ["straddle", "seam", "count", "forced", "unexplained"];

/**
 * Return how a symbol's minutes stood to the exchange's, in words.
 * @param {any} audit
 * @param {import("./text.js").Zone} zone
 */
export function auditText(audit, zone) {
  if (!audit || audit.compared === 0) return "Audit: no minute compared with the exchange's yet";
  const others = DIFFERENCES.filter((name) => audit[name] > 0).map((name) => `${audit[name]} ${name}`);
  const found = [`${audit.equal} equal`, ...others].join(", ");
  const until = audit.audited_until ? `, until ${timeText(audit.audited_until, zone)}` : "";
  return `Audit: ${audit.compared} minutes compared with the exchange's${until}: ${found}`;
}

/**
 * @param {HTMLElement} list
 * @param {string} short
 * @param {string} long
 */
function addValue(list, short, long) {
  const group = document.createElement("div");
  const term = document.createElement("dt");
  const cell = document.createElement("dd");
  term.textContent = short || long;
  term.title = long;
  if (!short) term.className = "unseen";
  cell.dataset.value = long;
  group.append(term, cell);
  list.append(group);
  return cell;
}

/** @param {Kline} kline */
function changeText(kline) {
  const change = (Number(kline.close) / Number(kline.open) - 1) * 100;
  return Number.isFinite(change) ? `${change < 0 ? "" : "+"}${change.toFixed(2)} %` : "";
}

/**
 * @param {HTMLElement} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
