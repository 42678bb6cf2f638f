// The page: what the address names is shown, and what the link to the daemon does is told.

import { ChartView } from "./chart_view.js";
import { setText } from "./legend.js";
import { ListView } from "./list_view.js";
import { hashOf, seriesOf } from "./route.js";
import { Search } from "./search.js";
import { Session } from "./session.js";
import { Settings } from "./settings.js";
import { timeText } from "./text.js";

const LINK_TEXTS = {
  connecting: "connecting",
  starting: "the daemon is starting",
  live: "live",
  lost: "connection lost, trying again",
};
const NOTICE_MS = 60_000;

const element = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

const settings = new Settings();
const session = new Session();
const chartView = new ChartView(session, settings);
let series = { symbol: "", interval: "" };
const listView = new ListView(session, () => series.interval);
const search = new Search(
  () => session.symbols.map((each) => each.symbol),
  (symbol) => go({ ...series, symbol }),
);

/** @param {{symbol: string, interval: string}} wanted */
function go(wanted) {
  location.hash = hashOf(wanted);
}

/** Show what the address says, as far as the daemon has it. */
function follow() {
  const symbols = session.symbols.map((each) => each.symbol);
  const intervals = session.intervals.map((each) => each.interval);
  if (symbols.length === 0 || intervals.length === 0) return;
  const first = { symbol: symbols.includes("BTC_USDT") ? "BTC_USDT" : symbols[0], interval: intervals[0] };
  const known = symbols.includes(series.symbol) && intervals.includes(series.interval);
  const wanted = seriesOf(location.hash, known ? series : first);
  if (wanted && !(symbols.includes(wanted.symbol) && intervals.includes(wanted.interval))) {
    tell(`${wanted.symbol} ${wanted.interval} is not kept here: symbols and intervals are in the lists`);
    location.replace(hashOf({
      symbol: symbols.includes(wanted.symbol) ? wanted.symbol : first.symbol,
      interval: intervals.includes(wanted.interval) ? wanted.interval : first.interval,
    }));
    return;
  }
  series = wanted ?? (known ? series : first);
  chartView.show(wanted);
  listView.show(wanted === null);
  search.shown = series.symbol;
  const inputs = /** @type {NodeListOf<HTMLInputElement>} */ (document.getElementsByName("interval"));
  for (const input of inputs) input.checked = input.value === series.interval;
  const link = /** @type {HTMLAnchorElement} */ (element("to-chart"));
  link.href = hashOf(series);
  setCurrent(link, wanted !== null);
  setCurrent(element("to-list"), wanted === null);
}

/** @param {HTMLElement} link @param {boolean} isCurrent */
function setCurrent(link, isCurrent) {
  if (isCurrent) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
}

/** One radio button per interval. */
function offerIntervals() {
  const box = element("intervals");
  const offered = [...box.querySelectorAll("input")].map((input) => input.value);
  const kept = session.intervals.map((each) => each.interval);
  if (offered.join() === kept.join()) return;
  const labels = kept.map((name) => {
    const label = document.createElement("label");
    const input = document.createElement("input");
    input.type = "radio";
    input.name = "interval";
    input.value = name;
    input.addEventListener("change", () => go({ ...series, interval: name }));
    const text = document.createElement("span");
    text.textContent = name;
    label.append(input, text);
    return label;
  });
  box.replaceChildren(/** @type {Element} */ (box.querySelector("legend")), ...labels);
}

let noticeTimer = 0;

/** @param {string} text */
function tell(text) {
  const notice = element("notice");
  notice.hidden = false;
  setText(notice, text);
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => (notice.hidden = true), NOTICE_MS);
}

/** @type {number|null} */
let lostAt = null;

function showLink() {
  const link = element("link");
  link.dataset.state = session.state;
  setText(link, LINK_TEXTS[session.state]);
  if (session.state === "lost") lostAt ??= Date.now();
  if (session.state === "live" && lostAt !== null) {
    const now = Date.now();
    const seconds = Math.max(1, Math.round((now - lostAt) / 1000));
    tell(`Connected again at ${timeText(now, settings.zone)} after ${seconds} s: what was missed is being loaded`);
    lostAt = null;
  }
}

session.addEventListener("catalog", () => {
  offerIntervals();
  follow();
});
session.addEventListener("state", showLink);
addEventListener("hashchange", follow);
void session.run();
