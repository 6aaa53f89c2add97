// The view that takes a snapshot: a topic, a window, a look at what would be read, and then the asking.

import { Ask } from "./ask.js";
import { NoTopics } from "./coverage.js";
import { useLive, useNow } from "./live.js";
import { Content, Heading, html } from "./parts.js";
import { go, goInstead, to } from "./route.js";
import { DAY, HOUR, MINUTE, floor, iso, localWords, moment, windowWords } from "./time.js";
import { allTopics } from "./topics.js";

/** The windows that are asked for most. */
const quick = (now) => ({
  hour: { name: "The last full hour", start: floor(now, HOUR) - HOUR, end: floor(now, HOUR) },
  yesterday: { name: "Yesterday", start: floor(now, DAY) - DAY, end: floor(now, DAY) },
});

/** `#/take?topic=…&window=hour`, or with `start` and `end` in place of `window`. */
export function Take({ query }) {
  const topics = useLive("topics", allTopics, () => 5 * MINUTE);
  return html`<${Heading} title="Take a snapshot" />
    <p class="lead">A snapshot stores the events of one topic and one window of time. Asking again for the same window is free and safe.</p>
    <${Content} live=${topics} what="topics">${(list) => (list.length === 0 ? html`<${NoTopics} />` : html`<${Form} topics=${list} query=${query} />`)}<//>`;
}

function Form({ topics, query }) {
  const now = useNow(30_000);
  const choices = quick(now);
  const topic = query.get("topic") || topics[0].topic;
  const window = query.get("start") || query.get("end") ? "span" : query.get("window") || "hour";
  const span = choices[window] ?? { start: moment(query.get("start")), end: moment(query.get("end")) };
  const change = (values) =>
    goInstead(
      to(["take"], {
        topic,
        ...(window === "span" ? { start: query.get("start"), end: query.get("end") } : { window }),
        ...values,
      }),
    );
  const good = span.start < span.end;
  return html`<form class="take" onSubmit=${(event) => event.preventDefault()}>
    <label class="field"><span>Topic</span>
      <select value=${topic} onChange=${(event) => change({ topic: event.target.value })}>
        ${!topics.some((one) => one.topic === topic) && html`<option value=${topic} selected>${topic}</option>`}
        ${topics.map((one) => html`<option key=${one.topic} value=${one.topic} selected=${one.topic === topic}>${one.topic}</option>`)}
      </select></label>
    <fieldset class="windows"><legend>Window</legend>
      ${Object.entries(choices).map(
        ([name, one]) => html`<label key=${name}>
        <input type="radio" name="window" checked=${window === name} onChange=${() => change({ window: name, start: null, end: null })} />
        <span>${one.name}<span class="fine">${windowWords(one.start, one.end)} UTC</span></span></label>`,
      )}
      <label><input type="radio" name="window" checked=${window === "span"} onChange=${() => change({ window: null, start: iso(choices.yesterday.start), end: iso(choices.yesterday.end) })} />
        <span>A span<span class="fine">from one moment to another</span></span></label>
    </fieldset>
    ${
      window === "span" &&
      html`<fieldset class="span"><legend>Span, in UTC</legend>
      <${Moment} label="From" at=${span.start} set=${(start) => change({ start })} />
      <${Moment} label="Up to, not including" at=${span.end} set=${(end) => change({ end })} />
    </fieldset>`
    }
  </form>
  ${
    good
      ? html`<${Ask} key=${`${topic} ${span.start} ${span.end}`} topic=${topic} start=${span.start} end=${span.end} onAsked=${(asked) => asked?.length === 1 && go(to(["snapshots", asked[0].id]))} />`
      : html`<p class="note" role="status">The span has to end after it begins.</p>`
  }`;
}

function Moment({ label, at, set }) {
  const value = Number.isNaN(at) ? "" : iso(at).slice(0, at % MINUTE === 0 ? 16 : 23);
  const local = localWords(at);
  const read = (event) => event.target.value && set(iso(Date.parse(`${event.target.value}Z`)));
  return html`<label class="field"><span>${label}</span><input type="datetime-local" step="60" value=${value} onChange=${read} />
    <span class="fine">${local ? `${local} on this computer` : "UTC"}</span></label>`;
}
