// What a person has chosen, kept by the browser: the theme and the zone of times.

const KEY = "klinetrio";

export class Settings extends EventTarget {
  constructor() {
    super();
    this._zone = /** @type {HTMLSelectElement} */ (document.getElementById("zone"));
    this._theme = /** @type {HTMLSelectElement} */ (document.getElementById("theme"));
    this._restore();
    this._apply();
    for (const select of [this._zone, this._theme]) {
      select.addEventListener("change", () => {
        this._apply();
        this._keep();
      });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this._apply());
  }

  /** @returns {import("./text.js").Zone} */
  get zone() {
    return this._zone.value === "local" ? "local" : "utc";
  }

  _apply() {
    document.documentElement.dataset.theme = this._theme.value;
    this.dispatchEvent(new Event("change"));
  }

  _restore() {
    try {
      const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
      this._zone.value = kept.zone === "local" ? "local" : "utc";
      this._theme.value = ["light", "dark"].includes(kept.theme) ? kept.theme : "system";
    } catch {
      // A browser may forbid storage, and what is in it may be anyone's: the defaults hold.
    }
  }

  _keep() {
    try {
      const kept = { zone: this._zone.value, theme: this._theme.value };
      localStorage.setItem(KEY, JSON.stringify(kept));
    } catch {
      // Then it holds until the page is left.
    }
  }
}
