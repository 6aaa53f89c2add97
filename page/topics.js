// The topics: what Kafka keeps of each and for how long, and what will be gone before it is stored.

import { get, path } from "./api.js";
import { useLive, useNow } from "./live.js";
import { Content, Heading, Icon, When, html } from "./parts.js";
import { byRisk, look, urgency } from "./risk.js";
import { to } from "./route.js";
import { MINUTE, lengthWords } from "./time.js";
import { useState } from "./vendor/hooks.js";
import { count, number } from "./words.js";

/** So many are looked into at once, and in all; the others are shown as they are. */
const AT_ONCE = 4;
const MOST_LOOKED_INTO = 100;
const SHOWN = 50;
const MOST_PAGES = 50;
const MOST_PARTITIONS = 100;

/** All topics that the token may have, by name. */
export async function allTopics(signal) {
  const topics = [];
  let cursor = null;
  for (let page = 0; page < MOST_PAGES; page += 1) {
    const found = await get(path(["topics"], { limit: 200, cursor }), signal);
    topics.push(...found.items);
    cursor = found.next_cursor;
    if (!cursor) break;
  }
  return topics;
}

/** Those that can lose something, before they have been looked into: the least recently stored first. */
const likely = (a, b) =>
  (b.retention_ms !== null) - (a.retention_ms !== null) ||
  (a.newest_window_end ?? "").localeCompare(b.newest_window_end ?? "") ||
  a.topic.localeCompare(b.topic);

async function withRisks(signal) {
  const topics = (await allTopics(signal)).sort(likely);
  const now = Date.now();
  const rows = topics.map((topic) => ({ topic, risk: null }));
  let next = 0;
  const worker = async () => {
    while (next < Math.min(rows.length, MOST_LOOKED_INTO)) {
      const row = rows[next++];
      row.risk = await look(row.topic, now, signal);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return rows.sort(byRisk(now));
}

export function Topics() {
  const live = useLive("topics with risks", withRisks, () => 5 * MINUTE);
  const [most, setMost] = useState(SHOWN);
  const now = useNow(30_000);
  return html`<${Heading} title="Topics" />
    <${Content} live=${live} what="topics" rows=${6}>${(rows) => html`
      <p class="lead">${verdict(rows, now)}</p>
      <table class="list wide topics">
        <caption class="only-read">Topics, those at risk first</caption>
        <thead><tr><th scope="col">Topic</th><th scope="col">Not stored yet</th><th scope="col">Stored</th>
          <th scope="col">Kafka keeps</th><th scope="col">In Kafka</th>
          <th scope="col"><span class="only-read">Take a snapshot</span></th></tr></thead>
        <tbody>${rows.slice(0, most).map((row) => html`<${Row} key=${row.topic.topic} ...${row} now=${now} />`)}</tbody>
      </table>
      ${rows.length > most && html`<p><button type="button" onClick=${() => setMost(most + SHOWN)}>Show more</button></p>`}`}<//>`;
}

function verdict(rows, now) {
  const urgent = rows.filter((row) => ["now", "soon"].includes(urgency(row.topic, row.risk, now))).length;
  if (rows.length === 0) return "Kafka has no topic that you may snapshot.";
  return urgent > 0
    ? html`<strong>${count(urgent, "topic")} at risk:</strong> Kafka will soon remove events that are not stored.`
    : `${count(rows.length, "topic")}. Nothing that is not stored will expire soon.`;
}

function Row({ topic, risk, now }) {
  const level = urgency(topic, risk, now);
  return html`<tr class=${`risk-${level}`}>
    <th scope="row" data-label="Topic"><a href=${to(["coverage", topic.topic])}>${topic.topic}</a></th>
    <td data-label="Not stored yet"><${Unstored} topic=${topic} risk=${risk} level=${level} now=${now} /></td>
    <td data-label="Stored"><${Stored} topic=${topic} now=${now} /></td>
    <td data-label="Kafka keeps">${topic.retention_ms === null ? "for good" : lengthWords(topic.retention_ms)}
      <span class="fine">${stamps(topic.timestamp_type)}</span></td>
    <td data-label="In Kafka">${risk?.offsets != null && html`<span class="nowrap">${count(risk.offsets, "offset")}</span>`} <${Watermarks} topic=${topic} risk=${risk} /></td>
    <td class="number"><a href=${takeLink(topic, risk)} aria-label=${`Take a snapshot of ${topic.topic}`}>Take</a></td>
  </tr>`;
}

/** What Kafka has of each partition, for who wants to know. */
function Watermarks({ topic, risk }) {
  const words = count(topic.partitions, "partition");
  if (!risk?.partitions) return html`<span class="fine">${words}</span>`;
  const some = risk.partitions.slice(0, MOST_PARTITIONS);
  return html`<details class="fine marks"><summary>${words}</summary>
    <ul aria-label=${`Watermarks of ${topic.topic}`}>${some.map((one) => html`<li key=${one.partition}>${one.partition}: <span class="nowrap">${number(one.low_watermark)} – ${number(one.high_watermark)}</span></li>`)}</ul>
    ${risk.partitions.length > some.length && html`and ${number(risk.partitions.length - some.length)} more`}
  </details>`;
}

const stamps = (type) =>
  ({ create_time: "stamped by producers", log_append_time: "stamped by the broker" })[type] ??
  "who stamps it is not known";

const takeLink = (topic, risk) =>
  risk?.since
    ? to(["take"], {
        topic: topic.topic,
        start: new Date(risk.since).toISOString(),
        end: new Date(Math.ceil(Date.now() / MINUTE) * MINUTE).toISOString(),
      })
    : to(["take"], { topic: topic.topic });

function Unstored({ topic, risk, level, now }) {
  if (risk === null) return html`<span class="fine">not looked into</span>`;
  if (topic.retention_ms === null) return html`nothing expires`;
  if (risk.unstored === null) return html`<span class="fine">too many windows to tell</span>`;
  if (risk.unstored === 0) return html`<span class="status is-sealed"><${Icon} name="sealed" />nothing</span>`;
  const when = {
    now: html`<strong>may be removed at any moment</strong>`,
    soon: html`<strong>expires from <${When} at=${risk.expires} /> on</strong>, in ${lengthWords(risk.expires - now)}`,
    later: html`safe until <${When} at=${risk.expires} />, for ${lengthWords(risk.expires - now)}`,
  }[level];
  const icon = { now: "failed", soon: "lost", later: "missing" }[level];
  return html`<span class=${`status is-${icon}`}><${Icon} name=${icon} />${count(risk.unstored, "offset")}</span>
    <span class="fine">from <${When} at=${risk.since} /> on; ${when}</span>`;
}

/** What is stored stays; what may go is Kafka's copy. */
function Stored({ topic, now }) {
  if (topic.snapshots === 0) return html`nothing`;
  const oldest = Date.parse(topic.oldest_window_start);
  const gone = topic.retention_ms === null ? null : oldest + topic.retention_ms;
  return html`<a href=${to(["snapshots"], { topic: topic.topic })}>${count(topic.snapshots, "snapshot")}</a>
    <span class="fine"><${When} at=${oldest} /> – <${When} at=${topic.newest_window_end} /></span>
    ${gone !== null && html`<span class="fine">Kafka's copy of the oldest ${gone <= now ? "may be gone" : html`stays until <${When} at=${gone} />`}</span>`}`;
}
