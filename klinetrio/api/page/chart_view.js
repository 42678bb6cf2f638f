// The chart of one series: loads it, keeps it live, and loads history as one scrolls back.
//
// While bars are being read, pushed ones wait: what was read is put in first, so that a hole
// between what was there and what is new cannot go unnoticed.

import { get } from "./api.js";
import { Bars, isEarlier } from "./bars.js";
import { Chart } from "./chart.js";
import { auditText, Legend, proofText, setText } from "./legend.js";

/** @typedef {import("./bars.js").Kline} Kline */

const FIRST_BARS = 500;
const PAGE_BARS = 1000;
// Older bars are asked for when fewer than these are left to scroll into.
const MARGIN_BARS = 200;
const RETRY_MS = 1_000;
// Where the past ends now it may go on later: a daemon fetches history while it runs.
const PAST_AGAIN_MS = 30_000;
// The proof of a bar may come after its last push.
const PROOF_MS = 5_000;
const PROOF_BARS = 100;
const AUDIT_MS = 30_000;

const element = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

export class ChartView {
  /**
   * @param {import("./session.js").Session} session
   * @param {import("./settings.js").Settings} settings
   */
  constructor(session, settings) {
    this._session = session;
    this._settings = settings;
    this._section = element("chart-view");
    this._container = element("chart");
    this._legend = new Legend();
    this._chart = new Chart(this._container, {
      onRange: (from, to) => this._onRange(from, to),
      onPoint: (openTime) => this._onPoint(openTime),
    });
    this._bars = new Bars();
    /** @type {{symbol: string, interval: string}|null} */
    this._series = null;
    /** @type {Map<number, Kline>} */
    this._waiting = new Map();
    this._isLoading = false;
    this._loads = 0;
    this._isPaging = false;
    this._pastEndedAt = -Infinity;
    this._isDue = false;
    this._range = { from: 0, to: 0 };
    /** @type {number|null} */
    this._pointed = null;
    /** @type {number|null} Pointed at by key: stays so as the chart moves on. */
    this._pinned = null;
    /** @type {any[]} */
    this._audits = [];
    this._listen();
  }

  /**
   * Show a series; null when another view is shown.
   * @param {{symbol: string, interval: string}|null} series
   */
  show(series) {
    this._section.hidden = series === null;
    if (series?.symbol === this._series?.symbol && series?.interval === this._series?.interval) return;
    this._series = series;
    this._bars = new Bars();
    this._waiting.clear();
    this._pointed = null;
    this._pinned = null;
    this._pastEndedAt = -Infinity;
    this._session.watch(series);
    this._loads += 1; // whatever is being read is of another series
    if (series === null) return;
    setText(element("title"), `${series.symbol} ${series.interval}`);
    this._container.setAttribute("aria-label", `Candlestick chart of ${series.symbol}, ${series.interval}`);
    this._chart.draw([]);
    this._chart.prepare(this._session.decimalsOf(series.symbol), this._session.lengthOf(series.interval));
    this._write();
    void this._load();
    void this._readAudit();
  }

  _listen() {
    this._session.addEventListener("state", () => {
      if (this._session.state !== "live" || !this._series) return;
      void this._load();
      void this._readAudit();
    });
    this._session.addEventListener("kline", (event) => {
      const kline = /** @type {CustomEvent<Kline>} */ (event).detail;
      const { symbol, interval } = this._series ?? {};
      if (kline.symbol === symbol && kline.interval === interval) this._take(kline);
    });
    this._settings.addEventListener("change", () => {
      this._chart.restyle(this._settings.zone);
      this._write();
    });
    this._container.addEventListener("pointermove", () => {
      this._pinned = null;
    });
    this._container.addEventListener("keydown", (event) => this._onKey(event));
    setInterval(() => void this._readProofs(), PROOF_MS);
    setInterval(() => void this._readAudit(), AUDIT_MS);
  }

  /** Read the newest bars, until it succeeds or is begun anew. */
  async _load() {
    const series = this._series;
    this._loads += 1;
    const mine = this._loads;
    this._isLoading = true;
    this._section.setAttribute("aria-busy", "true");
    while (series && mine === this._loads) {
      const klines = await this._read(series, { limit: FIRST_BARS });
      if (mine !== this._loads) return;
      if (klines) {
        this._putLoaded(klines);
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /** @param {Kline[]} klines */
  _putLoaded(klines) {
    const wasEmpty = this._bars.list.length === 0;
    this._bars.putNewest(klines);
    for (const kline of this._waiting.values()) {
      const known = this._bars.at(kline.open_time);
      if (!known || !isEarlier(kline, known)) this._bars.put(kline);
    }
    this._waiting.clear();
    this._isLoading = false;
    this._section.removeAttribute("aria-busy");
    this._chart.draw(this._bars.list);
    if (wasEmpty) this._chart.toNewest();
    this._write();
  }

  /** @param {Kline} kline */
  _take(kline) {
    this._waiting.set(kline.open_time, kline);
    if (this._isLoading || this._isDue) return;
    this._isDue = true;
    requestAnimationFrame(() => this._putWaiting());
  }

  /** Draw what came since the last frame. */
  _putWaiting() {
    this._isDue = false;
    if (this._isLoading) return;
    let isNew = false;
    for (const kline of this._waiting.values()) {
      const before = this._bars.at(kline.open_time);
      const where = this._bars.put(kline);
      if (where === "between") this._chart.draw(this._bars.list);
      else this._chart.drawOne(kline, where === "end");
      isNew ||= !before || before.is_complete !== kline.is_complete || before.revision !== kline.revision;
    }
    this._waiting.clear();
    if (isNew) this._chart.drawMarks();
    if (this._pinned !== null) this._chart.pointAt(this._bars.indexFrom(this._pinned));
    this._write();
  }

  /** @param {number} from @param {number} to */
  _onRange(from, to) {
    this._range = { from, to };
    this._write();
    if (from < MARGIN_BARS) void this._readPast();
  }

  async _readPast() {
    const series = this._series;
    const ended = performance.now() - this._pastEndedAt < PAST_AGAIN_MS;
    if (!series || !this._bars.first || this._bars.isFull || this._isPaging || ended) return;
    this._isPaging = true;
    const before = this._bars.first.open_time;
    const klines = await this._read(series, { before, limit: PAGE_BARS });
    this._isPaging = false;
    if (this._series !== series || this._bars.first?.open_time !== before) return;
    if (!klines || klines.length < PAGE_BARS) this._pastEndedAt = performance.now();
    if (klines?.length) {
      this._bars.putBefore(klines);
      this._chart.draw(this._bars.list);
    }
    this._write();
  }

  /** Ask again for newer bars that were final before they were proved. */
  async _readProofs() {
    const series = this._series;
    const due = this._bars.list.slice(-PROOF_BARS).filter((each) => each.is_final && !each.is_complete);
    if (!series || this._isLoading || due.length === 0 || this._session.state !== "live") return;
    const span = { start_time: due[0].open_time, end_time: due[due.length - 1].open_time };
    const klines = (await this._read(series, { ...span, limit: PROOF_BARS })) ?? [];
    if (this._series !== series || this._isLoading) return;
    for (const kline of klines) {
      const known = this._bars.at(kline.open_time);
      if (known && !isEarlier(kline, known)) this._waiting.set(kline.open_time, kline);
    }
    this._putWaiting();
  }

  async _readAudit() {
    if (!this._series || this._session.state !== "live") return;
    this._audits = (await get("audit").catch(() => null)) ?? this._audits;
    this._write();
  }

  /**
   * Return bars, null if they could not be read now.
   * @param {{symbol: string, interval: string}} series
   * @param {Record<string, number>} which
   * @returns {Promise<Kline[]|null>}
   */
  _read(series, which) {
    return get("klines", { ...series, ...which }).catch(() => null);
  }

  /** @param {number|null} openTime */
  _onPoint(openTime) {
    this._pointed = openTime;
    this._write();
  }

  /** @param {number|null} index Of the bar to point at. */
  _pin(index) {
    this._pinned = index === null ? null : this._bars.list[index].open_time;
    if (index === null) this._chart.letGo();
    else this._chart.pointAt(index);
    // The chart tells where it points with its next frame only; keys may be quicker.
    this._pointed = this._pinned;
    this._write();
  }

  /** @param {() => void} scroll Leads away from the bar that is pointed at. */
  _goTo(scroll) {
    this._pin(null);
    scroll();
  }

  /** @param {KeyboardEvent} event */
  _onKey(event) {
    const { list } = this._bars;
    if (list.length === 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this._pointed === null ? list.length - 1 : this._bars.indexFrom(this._pointed);
    /** @type {Record<string, () => void>} */
    const keys = {
      ArrowLeft: () => this._pin(Math.max(0, at - 1)),
      ArrowRight: () => this._pin(Math.min(list.length - 1, at + 1)),
      Home: () => this._goTo(() => this._chart.toOldest()),
      End: () => this._goTo(() => this._chart.toNewest()),
      "+": () => this._chart.zoom(0.7),
      "-": () => this._chart.zoom(1.4),
      Escape: () => this._pin(null),
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
    if (event.key.startsWith("Arrow")) setText(element("spoken"), this._legend.spoken);
  }

  /** Write down what is shown; also as data attributes, for programs that look at the page. */
  _write() {
    const series = this._series;
    if (!series) return;
    const { list, first, last } = this._bars;
    const shown = this._pointed === null ? last : (this._bars.at(this._pointed) ?? last);
    this._legend.show(shown, this._session.lengthOf(series.interval), this._settings.zone);
    const inView = list.slice(Math.max(0, this._range.from), Math.max(0, this._range.to + 1));
    setText(element("shown"), this._isLoading ? "Loading" : proofText(inView));
    const audit = this._audits.find((each) => each.symbol === series.symbol);
    setText(element("audit"), auditText(audit, this._settings.zone));
    if (last) document.title = `${last.close} ${series.symbol} ${series.interval}`;
    Object.assign(this._container.dataset, {
      symbol: series.symbol,
      interval: series.interval,
      bars: String(list.length),
      first: String(first?.open_time ?? ""),
      last: String(last?.open_time ?? ""),
      close: last?.close ?? "",
      trades: String(last?.trade_count ?? ""),
    });
  }
}
