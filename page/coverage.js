// The view of what is held: a calendar from the year down to the hour, and gaps to be filled.

import { Ask } from "./ask.js";
import { Legend, Year, summary, useTip } from "./calendar.js";
import { cells, interval, load } from "./cover.js";
import { useLive } from "./live.js";
import { Content, Heading, ProblemNote, Waiting, html } from "./parts.js";
import { go, goInstead, to } from "./route.js";
import {
  DAY,
  HOUR,
  MINUTE,
  addMonths,
  ceil,
  cut,
  dayOf,
  dayWords,
  moment,
  monthOf,
  monthWords,
  yearOf,
} from "./time.js";
import { DayList, Timeline, hoursOf } from "./timeline.js";
import { allTopics } from "./topics.js";
import { useEffect, useRef, useState } from "./vendor/hooks.js";

const LINES = 100;

/** `#/coverage`, and `#/coverage/TOPIC?year=…`, `month=…` or `day=…`, with `gap=FROM/TO` on top. */
export function Coverage({ topic, query }) {
  const topics = useLive("topics", allTopics, () => 5 * MINUTE);
  const chosen = topics.data && !topic ? preferred(topics.data) : null;
  useEffect(() => {
    if (chosen) goInstead(to(["coverage", chosen.topic]));
  }, [chosen?.topic]);
  if (topic) return html`<${OfTopic} key=${topic} topic=${topic} query=${query} topics=${topics} />`;
  return html`<${Heading} title="Coverage" /><${Content} live=${topics} what="topics">${(list) => list.length === 0 && html`<${NoTopics} />`}<//>`;
}

export const NoTopics = () => html`<p class="lead">Kafka has no topic that you may snapshot.</p>
  <p>Topics appear here as soon as they exist and the token may have them.</p>`;

/** The one that was brought up to date last. */
const preferred = (topics) =>
  topics.reduce(
    (best, one) => ((one.newest_window_end ?? "") > (best?.newest_window_end ?? "") || !best ? one : best),
    null,
  );

function OfTopic({ topic, query, topics }) {
  const facts = topics.data?.find((one) => one.topic === topic);
  const span = spanOf(query, facts);
  // A year needs to know how many windows there are, and which year, if the link does not say so.
  const ready = (span !== null && span.unit !== "year") || topics.data || topics.error;
  return html`<div class="headline"><${Heading} title=${`Coverage of ${topic}`}>Coverage <span class="only-read">of ${topic}</span><//>
      <${Choice} topic=${topic} topics=${topics.data} /></div>
    ${ready ? html`<${Span} topic=${topic} query=${query} facts=${facts} span=${span ?? spanOf({ get: () => null }, {})} />` : html`<${Waiting} what="topics" />`}`;
}

function Choice({ topic, topics }) {
  const names = topics?.map((one) => one.topic) ?? [];
  if (!names.includes(topic)) names.unshift(topic);
  return html`<label class="choice"><span>of</span><span class="only-read">topic</span>
    <select value=${topic} onChange=${(event) => go(to(["coverage", event.target.value]))}>
      ${names.map((name) => html`<option key=${name} value=${name} selected=${name === topic}>${name}</option>`)}
    </select>
  </label>`;
}

/** What the link asks for; null while the topic has to tell the year. */
function spanOf(query, facts) {
  for (const [unit, length] of [
    ["day", (at) => at + DAY],
    ["month", (at) => addMonths(at, 1)],
    ["year", (at) => addMonths(at, 12)],
  ]) {
    const at = moment(query.get(unit));
    if (!Number.isNaN(at)) return { unit, from: at, until: length(at) };
  }
  if (!facts) return null;
  const newest = facts.newest_window_end ? Date.parse(facts.newest_window_end) - 1 : Date.now();
  const from = moment(yearOf(Math.min(newest, Date.now())));
  return { unit: "year", from, until: addMonths(from, 12) };
}

const LINKS = { year: yearOf, month: monthOf, day: dayOf };

function Span({ topic, query, facts, span }) {
  const { unit, from, until } = span;
  const now = Date.now();
  // Time to come is in no snapshot yet; to the hour, so that the link to the API stays the same.
  const end = Math.max(from + HOUR, Math.min(until, ceil(now, HOUR)));
  const live = useLive(
    `${topic} ${from} ${end}`,
    (signal, before) => load(topic, from, end, signal, before, facts),
    interval,
  );
  const here = { [unit]: LINKS[unit](from) };
  const close = () => go(to(["coverage", topic], here));
  const gap = query.get("gap");
  return html`<${Walk} topic=${topic} span=${span} end=${end} />
    <${Legend} />
    <${Content} live=${live} what="the calendar" rows=${8}>${(cover) => html`
      <p class="lead" id="summary">${says(cover)}</p>
      <${Shown} topic=${topic} span=${span} end=${end} cover=${cover} facts=${facts} here=${here} />
    `}<//>
    ${gap && html`<${Fill} key=${gap} topic=${topic} gap=${gap} cover=${live.data} onClose=${close} onDone=${live.reload} />`}`;
}

const says = (cover) => (cover.complete ? html`<strong>Complete.</strong> ${summary(cover)}.` : `${summary(cover)}.`);

/** Back and forth in time, and up. */
function Walk({ topic, span: { unit, from, until }, end }) {
  const before = unit === "day" ? from - DAY : addMonths(from, unit === "month" ? -1 : -12);
  const link = (at, of = unit) => to(["coverage", topic], { [of]: LINKS[of](at) });
  const title = { year: yearOf, month: monthWords, day: dayWords }[unit](from);
  const up = { year: null, month: "year", day: "month" }[unit];
  return html`<nav class="walk" aria-label="Time">
    <a class="step" href=${link(before)} rel="prev" aria-label=${`Previous ${unit}`}>‹</a>
    ${until <= Date.now() ? html`<a class="step" href=${link(until)} rel="next" aria-label=${`Next ${unit}`}>›</a>` : html`<span class="step" aria-hidden="true">›</span>`}
    <h2>${title}</h2>
    ${up && html`<a class="up" href=${link(from, up)}>${up === "year" ? yearOf(from) : monthWords(from)}</a>`}
    ${unit === "day" && html`<a class="up" href=${link(from, "year")}>${yearOf(from)}</a>`}
    ${unit === "year" && html`<a class="up" href=${to(["coverage", topic], { month: monthOf(Date.now()) })}>This month</a>`}
  </nav>`;
}

function Shown({ topic, span, end, cover, facts, here }) {
  const tip = useTip();
  const [most, setMost] = useState(LINES);
  const known = knownSpan(cover, facts);
  const days = cells(cover, cut(span.from, end, DAY), known);
  const hours = (day) => cells(cover, hoursOf(day.start, day.end), known);
  if (span.unit === "year") {
    return html`<${Year} topic=${topic} from=${span.from} until=${span.until} cells=${days} tip=${tip} />${tip.element}`;
  }
  return html`<${Timeline} topic=${topic} rows=${days} hours=${hours} here=${here} tip=${tip} tall=${span.unit === "day"} />${tip.element}
    ${span.unit === "day" && html`<${DayList} topic=${topic} cell=${days[0]} here=${here} most=${most} onMore=${() => setMost(most + 10 * LINES)} />`}`;
}

/** From the first window that there is to the last, also of those that are not in view. */
function knownSpan(cover, facts) {
  const ends = cover.windows.map((window) => window.end);
  const start = Math.min(cover.windows[0]?.start ?? Infinity, Date.parse(facts?.oldest_window_start ?? "") || Infinity);
  const end = Math.max(
    ends.reduce((a, b) => Math.max(a, b), -Infinity),
    Date.parse(facts?.newest_window_end ?? "") || -Infinity,
  );
  return { start, end };
}

/** What to fill a gap with: what was clicked, or all of the gap that it lies in. */
function Fill({ topic, gap, cover, onClose, onDone }) {
  const dialog = useRef(null);
  const [start, end] = gap.split("/").map(moment);
  const whole = cover?.gaps.find((one) => one.start <= start && one.end >= end);
  useEffect(() => {
    dialog.current.showModal();
  }, []);
  const bad = !(start < end);
  return html`<dialog class="sheet" ref=${dialog} aria-labelledby="fill" onClose=${onClose} onClick=${(event) => event.target === dialog.current && dialog.current.close()}>
    <div class="inside">
      <header><h2 id="fill">Fill a gap of ${topic}</h2>
        <button type="button" class="quiet" onClick=${() => dialog.current.close()}>Close</button></header>
      ${bad ? html`<${ProblemNote} error=${new Error("This link names no span of time.")} />` : html`<${Ask} topic=${topic} start=${start} end=${end} whole=${whole} onAsked=${onDone} />`}
    </div>
  </dialog>`;
}
