// REST of the daemon that served the page, with a deadline for every answer.

const DEADLINE_MS = 15_000;

/** What kept an answer from coming, in words. */
export class Unanswered extends Error {
  /**
   * @param {string} message
   * @param {string} code As in the daemon's errors; "unreachable" where there was no answer.
   */
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

/**
 * Return the answer to a GET.
 * @param {string} path
 * @param {Record<string, string|number>} [parameters]
 * @returns {Promise<any>}
 */
export async function get(path, parameters = {}) {
  const url = new URL(`api/v1/${path}`, document.baseURI);
  url.hash = "";
  for (const [name, value] of Object.entries(parameters)) {
    url.searchParams.set(name, String(value));
  }
  /** @type {Response} */
  let response;
  /** @type {any} */
  let body;
  try {
    response = await fetch(url, { signal: AbortSignal.timeout(DEADLINE_MS) });
    body = await response.json();
  } catch (error) {
    throw new Unanswered(`no answer: ${error}`, "unreachable");
  }
  if (!response.ok) {
    throw new Unanswered(body?.error?.message ?? response.statusText, body?.error?.code ?? "failed");
  }
  return body;
}

/** Return the address of the push side. */
export function pushAddress() {
  const url = new URL("api/v1/ws", document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.hash = "";
  return url;
}
