// All symbols in a table: sorted by any column, filtered, and kept live by polling what changed.

import { get } from "./api.js";
import { hashOf } from "./route.js";
import { TickerTable } from "./ticker_table.js";

/**
 * @typedef {object} Ticker As the daemon serves it; decimals are texts, null where unknown.
 * @property {string} symbol
 * @property {string|null} price
 * @property {string|null} price_change
 * @property {string|null} price_change_percent
 * @property {string|null} volume
 * @property {string|null} quote_volume
 * @property {number|null} last_trade_time
 * @property {string} state
 * @property {boolean|null} is_complete
 */

const PERIOD_MS = 1_000;

export class ListView {
  /**
   * @param {import("./session.js").Session} session
   * @param {() => string} interval Returns the interval that a symbol is opened with.
   */
  constructor(session, interval) {
    this._session = session;
    this._section = /** @type {HTMLElement} */ (document.getElementById("list-view"));
    this._filter = /** @type {HTMLInputElement} */ (document.getElementById("filter"));
    this._table = new TickerTable((symbol) => hashOf({ symbol, interval: interval() }));
    this._isShown = false;
    this._isAsking = false;
    /** @type {number|null} */
    this._generation = null;
    this._filter.addEventListener("input", () => this._table.filter(this._filter.value));
    session.addEventListener("state", () => {
      this._generation = null; // another run of the daemon counts from the start
      void this._poll();
    });
    setInterval(() => void this._poll(), PERIOD_MS);
  }

  /** @param {boolean} isShown */
  show(isShown) {
    this._section.hidden = !isShown;
    this._isShown = isShown;
    if (isShown) {
      document.title = "klinetrio symbols";
      void this._poll();
    }
  }

  async _poll() {
    if (!this._isShown || this._isAsking || document.hidden || this._session.state !== "live") return;
    this._isAsking = true;
    const since = this._generation;
    const answer = await get("tickers", since === null ? {} : { since }).catch(() => null);
    this._isAsking = false;
    if (answer === null || since !== this._generation) return;
    this._generation = answer.generation;
    this._table.take(answer.tickers, answer.time, since === null);
  }
}
