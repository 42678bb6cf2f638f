// The connection to the daemon: opened, watched, and opened again for as long as the page lives.
//
// Each time it begins by asking for the symbols and intervals, which tells a daemon that is
// starting from one that is not there. Then it opens a WebSocket. Whoever listens to "live" loads
// what may have been missed; pushed bars come by "kline".

import { get, pushAddress } from "./api.js";

/** @typedef {"connecting"|"starting"|"live"|"lost"} State */

/**
 * @typedef {object} Symbol_
 * @property {string} symbol
 * @property {string} exchange_symbol
 * @property {string} base
 * @property {string} quote
 * @property {number} price_decimals
 */

/** @typedef {{interval: string, length_ms: number|null}} Interval */

const FIRST_DELAY_MS = 500;
const MOST_DELAY_MS = 10_000;
const PING_MS = 10_000;
// Two pings without any message: the connection is dead, although nobody closed it.
const SILENCE_MS = 25_000;
const OPEN_MS = 15_000;

export class Session extends EventTarget {
  constructor() {
    super();
    /** @type {State} */
    this.state = "connecting";
    /** @type {Symbol_[]} */
    this.symbols = [];
    /** @type {Interval[]} */
    this.intervals = [];
    /** @type {{symbol: string, interval: string}|null} */
    this._wanted = null;
    /** @type {WebSocket|null} */
    this._socket = null;
    this._wake = () => {};
    addEventListener("online", () => this._wake());
  }

  /** Connect, and again whenever it ends. */
  async run() {
    for (let failures = 0; ; failures += 1) {
      try {
        await this._connect();
        failures = 0;
        await this._listen();
        this._enter("lost");
      } catch (error) {
        const isStarting = /** @type {any} */ (error)?.code === "starting";
        this._enter(isStarting ? "starting" : "lost");
      }
      await this._pause(delayOf(this.state, failures));
    }
  }

  /**
   * Be sent the bars of one series, instead of those before.
   * @param {{symbol: string, interval: string}|null} series
   */
  watch(series) {
    if (this._socket?.readyState === WebSocket.OPEN) {
      if (this._wanted) this._say("unsubscribe", this._wanted);
      if (series) this._say("subscribe", series);
    }
    this._wanted = series;
  }

  /** @param {string} name */
  lengthOf(name) {
    return this.intervals.find((each) => each.interval === name)?.length_ms ?? null;
  }

  /** @param {string} name */
  decimalsOf(name) {
    return this.symbols.find((each) => each.symbol === name)?.price_decimals ?? 2;
  }

  async _connect() {
    [this.symbols, this.intervals] = await Promise.all([get("symbols"), get("intervals")]);
    this.dispatchEvent(new Event("catalog"));
    const socket = new WebSocket(pushAddress());
    this._socket = socket;
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => socket.close(), OPEN_MS);
      socket.onopen = resolve;
      socket.onclose = () => reject(new Error("the connection was refused"));
      socket.addEventListener("close", () => clearTimeout(timer));
      socket.addEventListener("open", () => clearTimeout(timer));
    });
  }

  async _listen() {
    const socket = /** @type {WebSocket} */ (this._socket);
    let heard = Date.now();
    const over = new Promise((resolve) => {
      socket.onclose = resolve;
    });
    socket.onmessage = (event) => {
      heard = Date.now();
      const message = JSON.parse(event.data);
      if (message.type === "kline.update") {
        this.dispatchEvent(new CustomEvent("kline", { detail: message.data }));
      }
    };
    if (this._wanted) this._say("subscribe", this._wanted);
    this._enter("live");
    const timer = setInterval(() => {
      if (Date.now() - heard > SILENCE_MS) {
        socket.onclose?.(new CloseEvent("close")); // a dead peer never answers our close
        socket.close();
      } else if (socket.readyState === WebSocket.OPEN) {
        socket.send('{"op":"ping"}');
      }
    }, PING_MS);
    await over;
    clearInterval(timer);
    socket.onmessage = null;
    this._socket = null;
  }

  /**
   * @param {"subscribe"|"unsubscribe"} op
   * @param {{symbol: string, interval: string}} series
   */
  _say(op, series) {
    this._socket?.send(JSON.stringify({ op, klines: [series] }));
  }

  /** @param {State} state */
  _enter(state) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }

  /** @param {number} ms */
  _pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this._wake = () => {
        clearTimeout(timer);
        resolve(undefined);
      };
    });
  }
}

/**
 * Return how long to wait: longer each time, and never in step with other pages.
 * @param {State} state
 * @param {number} failures
 */
function delayOf(state, failures) {
  const grown = FIRST_DELAY_MS * 2 ** Math.min(failures, 10);
  const delay = state === "starting" ? 2 * FIRST_DELAY_MS : Math.min(grown, MOST_DELAY_MS);
  return delay * (0.75 + Math.random() / 2);
}
