// The small parts that all views are made of.

import { announce } from "./store.js";
import { iso, localWords, stamp } from "./time.js";
import { useEffect, useRef, useState } from "./vendor/hooks.js";
import htm from "./vendor/htm.js";
import { h } from "./vendor/preact.js";
import { STATUSES } from "./words.js";

export const html = htm.bind(h);

// Each status has a shape of its own, so that none needs its colour to be told apart.
const SHAPES = {
  sealed: html`<path class="solid" d="M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Z" /><path class="cut" d="m5 8.2 2.1 2.1L11.2 6" />`,
  settled: html`<circle class="line" cx="8" cy="8" r="5.7" /><path class="line" d="m5.4 8.2 1.8 1.8L10.8 6.2" />`,
  provisional: html`<circle class="line" cx="8" cy="8" r="5.7" /><path class="solid" d="M8 2.3a5.7 5.7 0 0 0 0 11.4Z" />`,
  lost: html`<path class="solid" d="M8 1 15.4 14.5H.6Z" /><path class="cut" d="M8 6v3.6M8 11.6v1" />`,
  uncertain: html`<path class="line" d="M8 1.9 14.6 14H1.4Z" /><path class="line" d="M8 6v3.6M8 11.4v.9" />`,
  failed: html`<rect class="solid" x="1.5" y="1.5" width="13" height="13" rx="2.5" /><path class="cut" d="m5.2 5.2 5.6 5.6m0-5.6-5.6 5.6" />`,
  cancelled: html`<rect class="line" x="2" y="2" width="12" height="12" rx="2.5" /><path class="line" d="M5 8h6" />`,
  running: html`<path class="line" d="M13.7 8A5.7 5.7 0 1 1 8 2.3" /><path class="solid" d="M7.6.2 11.4 2.4 7.6 4.8Z" />`,
  queued: html`<circle class="solid" cx="2.9" cy="8" r="1.6" /><circle class="solid" cx="8" cy="8" r="1.6" /><circle class="solid" cx="13.1" cy="8" r="1.6" />`,
  missing: html`<circle class="line dashed" cx="8" cy="8" r="5.7" />`,
  none: html`<circle class="solid" cx="8" cy="8" r="1.2" />`,
};

export const Icon = ({ name }) =>
  html`<svg class=${`icon is-${name}`} viewBox="0 0 16 16" aria-hidden="true" focusable="false">${SHAPES[name]}</svg>`;

/** A status in shape, colour and word. */
export const Status = ({ name }) =>
  html`<span class=${`status is-${name}`}><${Icon} name=${name} />${STATUSES[name].word}</span>`;

/** A moment in UTC; where this computer's clock shows another time, that is said on demand. */
export const When = ({ at }) => {
  const moment = typeof at === "string" ? Date.parse(at) : at;
  const local = localWords(moment);
  return html`<time datetime=${iso(moment)} title=${local ? `${local} on this computer` : undefined}>${stamp(moment)}</time>`;
};

/** A problem, in the API's words. */
export function ProblemNote({ error, children }) {
  const document = error.document ?? {};
  return html`<div class="note bad" role="alert">
    <p><strong>${document.title ?? "Something went wrong"}</strong></p>
    <p>${error.message}</p>
    ${children}
    ${document.request_id && html`<p class="fine">request <code>${document.request_id}</code>${document.code && html`, ${document.code}`}</p>`}
  </div>`;
}

/** What takes the place of a view's content until it is there. */
export const Waiting = ({ what, rows = 6 }) =>
  html`<div class="waiting" role="status"><span class="only-read">Loading ${what}</span>
    ${Array.from({ length: rows }, (_, row) => html`<div class="bone" key=${row}></div>`)}
  </div>`;

/** Data, or why there is none yet. */
export function Content({ live, what, rows, children }) {
  if (live.data !== null) {
    return html`${live.error && live.error.status !== 401 && html`<${ProblemNote} error=${live.error} />`}${children(live.data)}`;
  }
  if (live.error && live.error.status !== 401) {
    return html`<${ProblemNote} error=${live.error}>
      ${!live.error.document?.retryable && html`<p><button type="button" onClick=${live.reload}>Ask again</button></p>`}
    <//>`;
  }
  return html`<${Waiting} what=${what} rows=${rows} />`;
}

/** A line for a terminal, with a way to take it along. */
export function Command({ text, label = "The same with curl" }) {
  const [copied, setCopied] = useState(false);
  const code = useRef(null);
  useEffect(() => setCopied(false), [text]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
      announce("Copied");
    } catch {
      // Not allowed, as over plain HTTP: mark it, so that the keyboard can do it.
      getSelection().selectAllChildren(code.current);
      announce("Marked; copy it with the keyboard");
    }
  };
  return html`<figure class="command">
    <figcaption>${label}<button type="button" class="quiet" onClick=${copy}>${copied ? "Copied" : "Copy"}</button></figcaption>
    <pre tabindex="0" role="group" aria-label=${label}><code ref=${code}>${text}</code></pre>
  </figure>`;
}

/** A button that keeps the focus while it can't be used: one that is disabled loses it. */
export const Action = ({ off, primary, onClick, children }) =>
  html`<button type="button" class=${primary ? "primary" : ""} aria-disabled=${off ? "true" : null} onClick=${off ? null : onClick}>${children}</button>`;

/** How much of something is done, or is there. */
export const Meter = ({ value, label, kind = "" }) =>
  html`<span class=${`meter ${kind}`} role="progressbar" aria-label=${label} aria-valuemin="0" aria-valuemax="100"
    aria-valuenow=${Math.floor(value * 100)}><span style=${{ width: `${Math.min(1, value) * 100}%` }}></span></span>`;

/** A list of terms and what they are; a pair without a value is left out. */
export const Facts = ({ of }) =>
  html`<dl class="facts">${of
    .filter(([, value]) => value !== null && value !== undefined && value !== false)
    .map(([term, value]) => html`<div key=${term}><dt>${term}</dt><dd>${value}</dd></div>`)}</dl>`;

/** The heading of a view: the page's title, and where the reader is put when the view changes. */
export function Heading({ title, children }) {
  const element = useRef(null);
  useEffect(() => {
    document.title = `${title} · Strandline`;
  }, [title]);
  return html`<h1 tabindex="-1" ref=${element}>${children ?? title}</h1>`;
}
