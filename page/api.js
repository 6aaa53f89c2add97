// The public API, and nothing else: calls with the token, problems as the API words them, and
// whether the service is there at all.

import { store } from "./store.js";

const KEY = "strandline.token";
const PROBE_SECONDS = [1, 2, 4, 8];
const AWAY = new Set(["DATABASE_UNAVAILABLE", "DRAINING"]);

/** An error that the API words; `retryAfter` in seconds where it says so. */
export class Problem extends Error {
  constructor(document, status, retryAfter) {
    super(document.detail ?? document.title ?? `the answer has the status ${status}`);
    Object.assign(this, { document, status, retryAfter, code: document.code });
  }
}

/** That nobody answers. */
export class Away extends Error {}

const kept = (place) => {
  try {
    return place()?.getItem(KEY) ?? null;
  } catch {
    return null; // storage is switched off
  }
};

/** The token; why the last one was refused; how often it has changed, so that views ask anew. */
export const session = store({
  token: kept(() => sessionStorage) ?? kept(() => localStorage),
  kept: kept(() => localStorage) !== null,
  refused: null,
  version: 0,
});

/** Takes a token into use, for this tab alone or, if `keep`, for this browser. */
export function signIn(token, keep) {
  write(keep ? null : token, keep ? token : null);
  session.set({ token, kept: keep, refused: null, version: session.get().version + 1 });
}

export function signOut() {
  write(null, null);
  session.set({ token: null, kept: false, refused: null, version: session.get().version + 1 });
}

function write(forTab, forBrowser) {
  const put = (storage, value) => (value === null ? storage.removeItem(KEY) : storage.setItem(KEY, value));
  try {
    put(sessionStorage, forTab);
    put(localStorage, forBrowser);
  } catch {
    // Storage is switched off: the token lasts until the page is loaded again.
  }
}

/** `since` when nobody has answered, and what was said, if anything. */
export const connection = store({ since: null, problem: null, returned: 0 });

/**
 * Calls the API. Answers `{status, text, etag}`; the text of 304 is null.
 * Throws `Problem`, `Away`, or an AbortError.
 */
export async function call(method, path, { body, etag, signal } = {}) {
  const { token, version } = session.get();
  const headers = { accept: "application/json, application/x-ndjson" };
  if (token) headers.authorization = `Bearer ${token}`;
  if (etag) headers["if-none-match"] = etag;
  if (body !== undefined) headers["content-type"] = "application/json";
  const request = {
    method,
    headers,
    signal,
    body: body === undefined ? undefined : JSON.stringify(body),
    // No cookies, and no dialogue of the browser's own where a token is refused.
    credentials: "omit",
    cache: "no-store",
  };
  let response;
  let text;
  try {
    response = await fetch(path, request);
    text = response.status === 304 ? null : await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    goneAway(null);
    throw new Away("Strandline does not answer");
  }
  if (response.ok || response.status === 304) {
    return { status: response.status, text, etag: response.headers.get("etag") };
  }
  throw refusal(response, text, version);
}

function refusal(response, text, version) {
  let document;
  try {
    document = JSON.parse(text);
  } catch {
    document = { title: response.statusText, detail: text.slice(0, 200) || undefined };
  }
  const seconds = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  const retryAfter = Number.isNaN(seconds) ? null : seconds;
  const problem = new Problem(document, response.status, retryAfter);
  // What was sent with an older token says nothing of the newer one.
  if (response.status === 401 && version === session.get().version) session.set({ refused: problem });
  if (AWAY.has(problem.code)) goneAway(problem);
  return problem;
}

/** As `call`, with JSON read. */
export async function json(method, path, options) {
  const answer = await call(method, path, options);
  return { ...answer, data: answer.text === null ? null : JSON.parse(answer.text) };
}

export const get = async (path, signal) => (await json("GET", path, { signal })).data;
export const post = async (path, body) => (await json("POST", path, { body })).data;

/** A path with a query of those values that are not empty. */
export function path(parts, query = {}) {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) {
      if (one !== undefined && one !== null && one !== "") params.append(name, one);
    }
  }
  const text = params.toString();
  return `/v1/${parts.map(encodeURIComponent).join("/")}${text && `?${text}`}`;
}

/** Remembers since when nobody answers, and asks, ever more rarely, whether somebody does again. */
function goneAway(problem) {
  if (connection.get().since !== null) {
    if (problem) connection.set({ problem });
    return;
  }
  connection.set({ since: Date.now(), problem });
  probe(0);
}

function probe(attempt) {
  const seconds = PROBE_SECONDS[Math.min(attempt, PROBE_SECONDS.length - 1)];
  setTimeout(async () => {
    if (document.hidden) {
      document.addEventListener("visibilitychange", () => probe(0), { once: true });
      return;
    }
    const response = await fetch("/readyz", { credentials: "omit", cache: "no-store" }).catch(() => null);
    if (response?.ok) {
      const returned = connection.get().returned + 1;
      connection.set({ since: null, problem: null, returned });
    } else {
      probe(attempt + 1);
    }
  }, seconds * 1000);
}
