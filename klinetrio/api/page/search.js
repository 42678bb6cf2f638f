// The search for a symbol: a combobox as the ARIA practices describe it.

const MOST_FOUND = 50;

export class Search {
  /**
   * @param {() => string[]} symbols Returns the names to search in.
   * @param {(symbol: string) => void} onChoice
   */
  constructor(symbols, onChoice) {
    this._symbols = symbols;
    this._onChoice = onChoice;
    this._input = /** @type {HTMLInputElement} */ (document.getElementById("search"));
    this._list = /** @type {HTMLElement} */ (document.getElementById("found"));
    this._at = -1;
    this._input.addEventListener("input", () => this._find());
    this._input.addEventListener("keydown", (event) => this._onKey(event));
    this._input.addEventListener("focus", () => this._input.select());
    this._input.addEventListener("blur", () => this._close());
    this._list.addEventListener("pointerdown", (event) => {
      event.preventDefault(); // the input keeps the focus, and the list stays until the click
    });
    this._list.addEventListener("click", (event) => {
      const option = /** @type {HTMLElement} */ (event.target).closest("li");
      if (option?.dataset.symbol) this._choose(option.dataset.symbol);
    });
    document.addEventListener("keydown", (event) => {
      const isTyping = /** @type {HTMLElement} */ (event.target).matches("input, select, textarea");
      if (event.key === "/" && !isTyping) {
        event.preventDefault();
        this._input.focus();
      }
    });
  }

  /** @param {string} symbol What is shown now. */
  set shown(symbol) {
    if (document.activeElement !== this._input) this._input.value = symbol;
  }

  _find() {
    const found = findSymbols(this._symbols(), this._input.value).slice(0, MOST_FOUND);
    this._list.replaceChildren(
      ...found.map((symbol, index) => {
        const option = document.createElement("li");
        option.id = `found-${index}`;
        option.role = "option";
        option.dataset.symbol = symbol;
        option.textContent = symbol;
        return option;
      }),
    );
    if (found.length === 0) {
      const none = document.createElement("li");
      none.className = "none";
      none.textContent = "no such symbol";
      this._list.append(none);
    }
    this._list.hidden = false;
    this._input.setAttribute("aria-expanded", "true");
    this._point(found.length > 0 ? 0 : -1);
  }

  /** @param {number} index */
  _point(index) {
    this._at = index;
    const options = [...this._list.querySelectorAll("[role=option]")];
    options.forEach((option, each) => option.setAttribute("aria-selected", String(each === index)));
    if (index < 0) {
      this._input.removeAttribute("aria-activedescendant");
    } else {
      this._input.setAttribute("aria-activedescendant", `found-${index}`);
      options[index].scrollIntoView({ block: "nearest" });
    }
  }

  /** @param {KeyboardEvent} event */
  _onKey(event) {
    const options = /** @type {NodeListOf<HTMLElement>} */ (this._list.querySelectorAll("[role=option]"));
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (this._list.hidden) {
        this._input.value = "";
        this._find();
      } else if (options.length > 0) {
        const step = event.key === "ArrowDown" ? 1 : options.length - 1;
        this._point((this._at + step) % options.length);
      }
    } else if (event.key === "Enter" && !this._list.hidden && this._at >= 0) {
      event.preventDefault();
      this._choose(options[this._at].dataset.symbol ?? "");
    } else if (event.key === "Escape") {
      this._close();
    }
  }

  /** @param {string} symbol */
  _choose(symbol) {
    this._close();
    this._input.value = symbol;
    this._input.blur();
    this._onChoice(symbol);
  }

  _close() {
    this._list.hidden = true;
    this._input.setAttribute("aria-expanded", "false");
    this._point(-1);
  }
}

/**
 * Return the symbols that contain what was typed, those that begin with it first.
 * @param {string[]} symbols
 * @param {string} typed
 */
export function findSymbols(symbols, typed) {
  const plain = (/** @type {string} */ text) => text.toUpperCase().replace(/[^\p{L}\p{N}]/gu, "");
  const wanted = plain(typed);
  const found = symbols.filter((symbol) => plain(symbol).includes(wanted));
  const rank = (/** @type {string} */ symbol) => (plain(symbol).startsWith(wanted) ? 0 : 1);
  return found.sort((one, other) => rank(one) - rank(other));
}
