// What is shown, as the part of the address after "#": a series "#BTC_USDT/1m", or "#symbols".

/** @typedef {{symbol: string, interval: string}} Series */

const LIST = "#symbols";

/**
 * Return what the address says; null for the list of symbols.
 * @param {string} hash
 * @param {Series} otherwise What holds where it says nothing.
 * @returns {Series|null}
 */
export function seriesOf(hash, otherwise) {
  if (hash === LIST) return null;
  let parts = [""];
  try {
    parts = decodeURIComponent(hash.slice(1)).split("/");
  } catch {
    // Not an address of ours.
  }
  return { symbol: parts[0] || otherwise.symbol, interval: parts[1] || otherwise.interval };
}

/** @param {Series} series */
export function hashOf(series) {
  return `#${encodeURIComponent(series.symbol)}/${series.interval}`;
}
