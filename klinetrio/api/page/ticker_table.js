// The table of symbols: writes only what changed, once per frame of the screen.

import { setText } from "./legend.js";
import { ageText } from "./text.js";

/** @typedef {import("./list_view.js").Ticker} Ticker */

/**
 * @typedef {object} Column
 * @property {string} name
 * @property {string} title What it means.
 * @property {(ticker: Ticker, now: number) => string} text
 * @property {(ticker: Ticker) => number|string} key What it is sorted by; unknown goes last.
 */

const number = (/** @type {string|null} */ text) => (text === null ? -Infinity : Number(text));
const signed = (/** @type {string|null} */ text) => (text && Number(text) > 0 ? `+${text}` : (text ?? ""));
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });
const short = (/** @type {string|null} */ text) => (text === null ? "" : compact.format(Number(text)));

/** @param {Ticker} ticker */
function proof(ticker) {
  if (ticker.is_complete === null) return ticker.state;
  return `${ticker.state}, ${ticker.is_complete ? "complete" : "not proved"}`;
}

/** @type {Column[]} */
const COLUMNS = [
  { name: "Symbol", title: "Symbol", text: (each) => each.symbol, key: (each) => each.symbol },
  { name: "Price", title: "Last price", text: (each) => each.price ?? "", key: (each) => number(each.price) },
  { name: "Change", title: "Change of price in 24 h", text: (each) => signed(each.price_change), key: (each) => number(each.price_change) },
  { name: "%", title: "Change in percent in 24 h", text: (each) => signed(each.price_change_percent), key: (each) => number(each.price_change_percent) },
  { name: "Volume", title: "Volume in 24 h", text: (each) => short(each.volume), key: (each) => number(each.volume) },
  { name: "Turnover", title: "Volume in the quote asset in 24 h", text: (each) => short(each.quote_volume), key: (each) => number(each.quote_volume) },
  { name: "Last trade", title: "Time since the last trade", text: (each, now) => (each.last_trade_time === null ? "" : ageText(Math.max(0, now - each.last_trade_time))), key: (each) => each.last_trade_time ?? -Infinity },
  { name: "State", title: "Of the connection, and of the open bar", text: proof, key: proof },
];

/**
 * @typedef {object} Row
 * @property {HTMLTableRowElement} element
 * @property {HTMLElement[]} cells
 * @property {Ticker} ticker
 */

export class TickerTable {
  /** @param {(symbol: string) => string} href Returns where a symbol is shown. */
  constructor(href) {
    this._href = href;
    this._body = /** @type {HTMLElement} */ (document.getElementById("rows"));
    this._counted = /** @type {HTMLElement} */ (document.getElementById("counted"));
    /** @type {Map<string, Row>} */
    this._rows = new Map();
    /** @type {Set<Row>} */
    this._changed = new Set();
    this._sorted = { column: 5, isDescending: true };
    this._wanted = "";
    this._now = 0;
    this._isHeld = false;
    this._isDue = false;
    this._heads = this._makeHeads();
    // Rows do not run away from under a mouse; for the keyboard see _order.
    this._body.addEventListener("pointerenter", (event) => {
      this._isHeld = event.pointerType === "mouse";
    });
    this._body.addEventListener("pointerleave", () => {
      this._isHeld = false;
    });
  }

  /**
   * @param {Ticker[]} tickers
   * @param {number} now The daemon's time.
   * @param {boolean} isAll Whether symbols that are not among them are gone.
   */
  take(tickers, now, isAll) {
    this._now = now;
    if (isAll) this._drop(new Set(tickers.map((each) => each.symbol)));
    for (const ticker of tickers) {
      const row = this._rows.get(ticker.symbol) ?? this._addRow(ticker);
      row.ticker = ticker;
      this._changed.add(row);
    }
    this._draw();
  }

  /** @param {string} text */
  filter(text) {
    this._wanted = text.trim().toUpperCase();
    this._draw();
  }

  _draw() {
    if (this._isDue) return;
    this._isDue = true;
    requestAnimationFrame(() => {
      this._isDue = false;
      this._write();
    });
  }

  _write() {
    let shown = 0;
    for (const row of this._rows.values()) {
      const isHidden = !row.ticker.symbol.toUpperCase().includes(this._wanted);
      if (row.element.hidden !== isHidden) row.element.hidden = isHidden;
      shown += isHidden ? 0 : 1;
      // Ages go on where nothing else changes.
      const columns = this._changed.has(row) ? COLUMNS.keys() : [6];
      for (const index of columns) setText(row.cells[index], COLUMNS[index].text(row.ticker, this._now));
      if (this._changed.has(row)) mark(row);
    }
    this._changed.clear();
    this._order();
    setText(this._counted, `${shown} of ${this._rows.size} symbols`);
  }

  /** Put the rows in order; moves only those that are out of it. */
  _order() {
    if (this._isHeld || this._body.contains(document.activeElement)) return;
    const { column, isDescending } = this._sorted;
    const keyed = [...this._rows.values()].map((row) => ({ row, key: COLUMNS[column].key(row.ticker) }));
    keyed.sort((one, other) => {
      const order = one.key < other.key ? -1 : one.key > other.key ? 1 : 0;
      if (order === 0) return one.row.ticker.symbol < other.row.ticker.symbol ? -1 : 1;
      if (one.key === -Infinity || other.key === -Infinity) return -order;
      return isDescending ? -order : order;
    });
    let next = this._body.firstElementChild;
    for (const { row } of keyed) {
      if (row.element === next) next = next.nextElementSibling;
      else this._body.insertBefore(row.element, next);
    }
  }

  /** @param {number} column */
  _sortBy(column) {
    const { column: before, isDescending } = this._sorted;
    const first = typeof COLUMNS[column].key(/** @type {any} */ ({ symbol: "", state: "" })) !== "string";
    this._sorted = { column, isDescending: before === column ? !isDescending : first };
    this._showSorting();
    this._draw();
  }

  _makeHeads() {
    const heads = COLUMNS.map(({ name, title }, index) => {
      const head = document.createElement("th");
      const button = document.createElement("button");
      head.scope = "col";
      button.type = "button";
      button.textContent = name;
      button.title = title;
      button.addEventListener("click", () => this._sortBy(index));
      head.append(button);
      return head;
    });
    document.getElementById("columns")?.append(...heads);
    this._heads = heads;
    this._showSorting();
    return heads;
  }

  _showSorting() {
    this._heads.forEach((head, index) => {
      const order = this._sorted.isDescending ? "descending" : "ascending";
      if (index === this._sorted.column) head.setAttribute("aria-sort", order);
      else head.removeAttribute("aria-sort");
    });
  }

  /**
   * @param {Ticker} ticker
   * @returns {Row}
   */
  _addRow(ticker) {
    const element = document.createElement("tr");
    const head = document.createElement("th");
    const link = document.createElement("a");
    head.scope = "row";
    link.href = this._href(ticker.symbol);
    // The interval that is shown by then.
    link.addEventListener("focus", () => (link.href = this._href(ticker.symbol)));
    link.addEventListener("pointerenter", () => (link.href = this._href(ticker.symbol)));
    head.append(link);
    const cells = COLUMNS.slice(1).map(() => document.createElement("td"));
    element.dataset.symbol = ticker.symbol;
    element.append(head, ...cells);
    const row = { element, cells: [link, ...cells], ticker };
    this._rows.set(ticker.symbol, row);
    this._body.append(element);
    return row;
  }

  /** @param {Set<string>} staying */
  _drop(staying) {
    for (const [symbol, row] of this._rows) {
      if (!staying.has(symbol)) {
        row.element.remove();
        this._rows.delete(symbol);
      }
    }
  }
}

/** Tell the style sheet what the words say. @param {Row} row */
function mark(row) {
  const change = number(row.ticker.price_change);
  row.element.dataset.side = change > 0 ? "up" : change < 0 && change > -Infinity ? "down" : "";
  row.element.dataset.state = row.ticker.state;
}
