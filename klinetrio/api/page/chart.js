// Drawing: candles, volume and marks on a canvas, by TradingView's Lightweight Charts.
//
// Floats are for drawing alone; what is written anywhere else are the texts of the daemon.

import { DAY_MS, openText, timeText } from "./text.js";

/** @typedef {import("./bars.js").Kline} Kline */

const LWC = /** @type {any} */ (globalThis).LightweightCharts;

// Below so many pixels a bar, marks would hide the bars.
const LEAST_SPACING_FOR_MARKS = 5;

const COLOURS = ["surface", "text", "grid", "up", "down", "up-soft", "down-soft", "amber", "quiet"];

/** Return the theme's colours, as the style sheet has them now. */
function readColours() {
  const probe = document.createElement("span");
  document.body.append(probe);
  /** @type {Record<string, string>} */
  const colours = {};
  for (const name of COLOURS) {
    probe.style.color = `var(--${name})`;
    colours[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return colours;
}

export class Chart {
  /**
   * @param {HTMLElement} container
   * @param {{onRange: (from: number, to: number) => void,
   *   onPoint: (openTime: number|null) => void}} told Of the bars in view, by index, and of the
   *   one that is pointed at.
   */
  constructor(container, told) {
    this._container = container;
    /** @type {import("./text.js").Zone} */
    this._zone = "utc";
    /** @type {number|null} */
    this._lengthMs = 60_000;
    this._colours = readColours();
    this._hasMarks = true;
    /** @type {Kline[]} */
    this._klines = [];
    this._chart = LWC.createChart(container, { autoSize: true, ...this._options() });
    this._candles = this._chart.addSeries(LWC.CandlestickSeries, {});
    this._volume = this._chart.addSeries(LWC.HistogramSeries, volumeOptions(), 1);
    this._marks = LWC.createSeriesMarkers(this._candles, []);
    this._chart.panes()[1].setStretchFactor(0.25);
    this._chart.timeScale().subscribeVisibleLogicalRangeChange((/** @type {any} */ range) => {
      if (range) told.onRange(Math.floor(range.from), Math.ceil(range.to));
      this._showMarksIfRoom();
    });
    this._chart.subscribeCrosshairMove((/** @type {any} */ event) => {
      told.onPoint(event.time === undefined ? null : event.time * 1000);
    });
  }

  /**
   * Say what is going to be drawn.
   * @param {number} decimals Of prices.
   * @param {number|null} lengthMs Of the interval.
   */
  prepare(decimals, lengthMs) {
    this._lengthMs = lengthMs;
    const priceFormat = { type: "price", precision: decimals, minMove: 10 ** -decimals };
    this._candles.applyOptions({ priceFormat });
    this._chart.priceScale("right").applyOptions({ autoScale: true });
    this.restyle(this._zone);
  }

  /** @param {Kline[]} klines Ascending; what is in view stays there when older ones come in. */
  draw(klines) {
    this._klines = klines;
    this._candles.setData(klines.map((kline) => this._candle(kline)));
    this._volume.setData(klines.map((kline) => this._column(kline)));
    this._colourPrice();
    this.drawMarks();
  }

  /**
   * Draw one bar that is new or has changed.
   * @param {Kline} kline
   * @param {boolean} isLast
   */
  drawOne(kline, isLast) {
    this._candles.update(this._candle(kline), !isLast);
    this._volume.update(this._column(kline), !isLast);
    this._colourPrice();
  }

  /** Draw the marks of all bars, or none where there is no room. */
  drawMarks() {
    const marks = [];
    for (const kline of this._hasMarks ? this._klines : []) {
      const time = kline.open_time / 1000;
      if (!kline.is_complete) {
        const color = this._colours.amber;
        marks.push({ time, position: "aboveBar", shape: "circle", color, size: 0.4 });
      }
      if (kline.revision > 0) {
        // A character: the library's own shapes have a least size, which hides the bars.
        const color = this._colours.quiet;
        marks.push({ time, position: "belowBar", shape: "square", color, size: 0, text: "▪" });
      }
    }
    this._marks.setMarkers(marks);
  }

  /** Show the newest bars. */
  toNewest() {
    this._chart.timeScale().resetTimeScale();
    this._chart.timeScale().scrollToRealTime();
  }

  /** Show the oldest bars. */
  toOldest() {
    const range = this._chart.timeScale().getVisibleLogicalRange();
    if (range) this._chart.timeScale().setVisibleLogicalRange({ from: 0, to: range.to - range.from });
  }

  /**
   * Point at a bar, and bring it into view.
   * @param {number} index
   */
  pointAt(index) {
    const scale = this._chart.timeScale();
    const kline = this._klines[index];
    const range = scale.getVisibleLogicalRange();
    if (range && (index < range.from || index > range.to)) {
      const by = index < range.from ? index - range.from - 1 : index - range.to + 1;
      scale.setVisibleLogicalRange({ from: range.from + by, to: range.to + by });
    }
    this._chart.setCrosshairPosition(Number(kline.close), kline.open_time / 1000, this._candles);
  }

  /** Point at nothing. */
  letGo() {
    this._chart.clearCrosshairPosition();
  }

  /** @param {number} factor Above 1 to see more bars. */
  zoom(factor) {
    const scale = this._chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    if (range) {
      const from = range.to - Math.max(5, (range.to - range.from) * factor);
      scale.setVisibleLogicalRange({ from, to: range.to });
    }
  }

  /**
   * Take over the theme's colours and the zone of times.
   * @param {import("./text.js").Zone} zone
   */
  restyle(zone) {
    this._zone = zone;
    this._colours = readColours();
    this._chart.applyOptions(this._options());
    this.draw(this._klines);
  }

  /** @param {Kline} kline */
  _candle(kline) {
    const side = this._side(kline);
    const edge = kline.is_complete ? side : this._colours.amber;
    return {
      time: kline.open_time / 1000,
      open: Number(kline.open),
      high: Number(kline.high),
      low: Number(kline.low),
      close: Number(kline.close),
      color: kline.is_final ? side : this._colours.surface,
      borderColor: edge,
      wickColor: edge,
    };
  }

  /** @param {Kline} kline */
  _column(kline) {
    const isUp = Number(kline.close) >= Number(kline.open);
    const color = this._colours[isUp ? "up-soft" : "down-soft"];
    return { time: kline.open_time / 1000, value: Number(kline.volume), color };
  }

  /** Colour the last price like the side of the last bar, which may itself be hollow. */
  _colourPrice() {
    const last = this._klines[this._klines.length - 1];
    const priceLineColor = last ? this._side(last) : "";
    if (this._candles.options().priceLineColor !== priceLineColor) {
      this._candles.applyOptions({ priceLineColor });
    }
  }

  /** @param {Kline} kline */
  _side(kline) {
    return this._colours[Number(kline.close) >= Number(kline.open) ? "up" : "down"];
  }

  _showMarksIfRoom() {
    const hasRoom = this._chart.timeScale().options().barSpacing >= LEAST_SPACING_FOR_MARKS;
    if (hasRoom !== this._hasMarks) {
      this._hasMarks = hasRoom;
      this.drawMarks();
    }
  }

  _options() {
    const { surface, text, grid } = this._colours;
    return {
      layout: {
        background: { type: "solid", color: surface },
        textColor: text,
        fontFamily: getComputedStyle(document.body).fontFamily,
        panes: { separatorColor: grid },
      },
      grid: { vertLines: { color: grid }, horzLines: { color: grid } },
      crosshair: { mode: LWC.CrosshairMode.Normal },
      rightPriceScale: { borderColor: grid },
      timeScale: {
        borderColor: grid,
        timeVisible: this._lengthMs !== null && this._lengthMs < DAY_MS,
        secondsVisible: false,
        rightOffset: 4,
        barSpacing: 8,
        tickMarkMaxCharacterLength: 12,
        tickMarkFormatter: this._zone === "local" ? localTick(this._lengthMs) : undefined,
      },
      localization: {
        locale: "en-GB",
        timeFormatter: (/** @type {number} */ s) => openText(s * 1000, this._lengthMs, this._zone),
      },
    };
  }
}

function volumeOptions() {
  return { priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false };
}

/**
 * Return how ticks of the time axis are written in local time; null leaves one to the library.
 *
 * The library puts its larger ticks at midnights of UTC: elsewhere these are hours of some day.
 * @param {number|null} lengthMs
 */
function localTick(lengthMs) {
  return (/** @type {number} */ seconds, /** @type {number} */ type) => {
    if (lengthMs === null || lengthMs >= DAY_MS) return null;
    const text = timeText(seconds * 1000, "local");
    return type < LWC.TickMarkType.Time ? text.slice(5) : text.slice(11);
  };
}
