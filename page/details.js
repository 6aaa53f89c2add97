// What a snapshot is made of: runs, partitions, files, and a look at its events.

import { call, get, path } from "./api.js";
import { curl } from "./curl.js";
import { useLive } from "./live.js";
import { Command, Content, Meter, When, html } from "./parts.js";
import { SECOND, floor, lengthWords, windowWords } from "./time.js";
import { useState } from "./vendor/hooks.js";
import { bytes, count, errorWords, number } from "./words.js";

const PAGE = 50;
const SAMPLE = 20;
const LONGEST_VALUE = 2000;

/** A list of the API, page after page as far as somebody has asked for; asked again when `mark` changes. */
function useList(where, mark, open) {
  const [pages, setPages] = useState(1);
  const load = async (signal) => {
    const items = [];
    let cursor = null;
    for (let page = 0; page < pages; page += 1) {
      const query = new URLSearchParams({ limit: PAGE, ...(cursor && { cursor }) });
      const found = await get(`${where}?${query}`, signal);
      items.push(...found.items);
      cursor = found.next_cursor;
      if (!cursor) break;
    }
    return { items, more: cursor !== null };
  };
  // The list stays while it is asked for anew: what it is of is the same.
  const live = useLive(where, load, () => (open ? 2 * SECOND : null), `${mark} ${pages}`);
  return { live, more: () => setPages(pages + 1) };
}

const More = ({ list, data }) =>
  data.more && html`<p><button type="button" onClick=${list.more}>Show more</button></p>`;

export function Partitions({ id, mark, open }) {
  const list = useList(path(["snapshots", id, "partitions"]), mark, open);
  return html`<section><h2>Partitions</h2>
    <${Content} live=${list.live} what="the partitions" rows=${3}>${(data) =>
      data.items.length === 0
        ? html`<p>They are known when the run has planned what to read.</p>`
        : html`
      <div class="scroll" tabindex="0" role="group" aria-label="Partitions"><table class="list wide">
        <caption class="only-read">Partitions of the snapshot</caption>
        <thead><tr><th scope="col">Partition</th><th scope="col">Stored</th><th scope="col" class="number">Offsets</th>
          <th scope="col" class="number">Events</th><th scope="col" class="number">Lost</th><th scope="col">Range</th>
          <th scope="col">Timestamps</th></tr></thead>
        <tbody>${data.items.map((one) => html`<${Partition} key=${one.partition} one=${one} />`)}</tbody>
      </table></div>
      <${More} list=${list} data=${data} />`}<//>
  </section>`;
}

function Partition({ one }) {
  const length = one.end_offset - one.start_offset;
  const done = length === 0 ? 1 : one.stored_offsets / length;
  return html`<tr>
    <td data-label="Partition">${one.partition}</td>
    <td data-label="Stored"><${Meter} value=${done} label=${`Partition ${one.partition} stored`} /></td>
    <td data-label="Offsets" class="number">${number(one.stored_offsets)} of ${number(length)}</td>
    <td data-label="Events" class="number">${number(one.records)}</td>
    <td data-label="Lost" class="number">${one.lost_offsets > 0 ? html`<strong class="warn">${number(one.lost_offsets)}</strong>` : "0"}${one.start_uncertain && html` <span class="warn">perhaps more</span>`}</td>
    <td data-label="Range" class="range">${number(one.start_offset)} – ${number(one.end_offset)} <span class="fine">${one.sealed ? "sealed" : "end open"}, Kafka has ${number(one.low_watermark)} – ${number(one.high_watermark)}</span></td>
    <td data-label="Timestamps" class="range">${one.min_timestamp ? windowWords(floor(Date.parse(one.min_timestamp), SECOND), floor(Date.parse(one.max_timestamp), SECOND)) : ""}</td>
  </tr>`;
}

/**
 * All attempts, newest first, those that Strandline made by itself included. What became of the
 * run `told` stands above, on the page.
 */
export function Runs({ id, told, mark, open }) {
  const list = useList(path(["snapshots", id, "runs"]), mark, open);
  return html`<section><h2>Runs</h2>
    <${Content} live=${list.live} what="the runs" rows=${1}>${(data) => html`
      <ol class="runs">${data.items.map((one) => html`<${Run} key=${one.run} one=${one} error=${one.run === told ? null : one.error} />`)}</ol>
      <${More} list=${list} data=${data} />`}<//>
  </section>`;
}

function Run({ one, error }) {
  const asked = one.origin === "sealer" ? "made by Strandline itself" : "asked for";
  const took = one.finished_at && one.started_at && Date.parse(one.finished_at) - Date.parse(one.started_at);
  return html`<li>
    <strong>${one.run}</strong> ${one.state}, ${count(one.records_added, "event")} added
    <span class="fine">${asked} <${When} at=${one.requested_at} />${took !== null && `, took ${lengthWords(took)}`}</span>
    ${error && html`<p class="fine"><strong>${errorWords(error)}</strong> ${error.message} <code>${error.code}</code></p>`}
  </li>`;
}

export function Files({ id, mark, open }) {
  const list = useList(path(["snapshots", id, "files"]), mark, open);
  return html`<section><h2>Files</h2>
    <${Content} live=${list.live} what="the files" rows=${2}>${(data) =>
      data.items.length === 0
        ? html`<p>None${open ? " yet" : ": no event is stored"}.</p>`
        : html`
      <ul class="files">${data.items.map(
        (one) => html`<li key=${one.url}>
        <code class="url">${one.url}</code>
        <span class="fine">${count(one.records_in_window, "event")}${!one.whole && ` of ${number(one.records)}, the others are another window's`} · ${bytes(one.bytes)} · partition${one.segments.length === 1 ? "" : "s"} ${partitionsOf(one.segments)} · SHA-256 <code>${one.sha256.slice(0, 12)}…</code></span>
      </li>`,
      )}</ul>
      <${More} list=${list} data=${data} />`}<//>
  </section>`;
}

const partitionsOf = (segments) => {
  const numbers = [...new Set(segments.map((segment) => segment.partition))];
  return numbers.length > 8 ? `${numbers.slice(0, 8).join(", ")} …` : numbers.join(", ");
};

/** The first few events, when somebody asks for them. */
export function Events({ id, mark }) {
  const [shown, setShown] = useState(false);
  const [partition, setPartition] = useState("");
  const where = path(["snapshots", id, "events"], { partition, limit: SAMPLE });
  return html`<section><h2>Events</h2>
    <form class="sample" onSubmit=${(event) => {
      event.preventDefault();
      setPartition(new FormData(event.currentTarget).get("partition"));
      setShown(true);
    }}>
      <label class="field"><span>Partition</span><input name="partition" inputmode="numeric" pattern="[0-9]*" placeholder="all" size="6" autocomplete="off" /></label>
      <button type="submit">Show the first ${SAMPLE}</button>
    </form>
    ${shown && html`<${Sample} key=${`${where} ${mark}`} where=${where} />`}
  </section>`;
}

function Sample({ where }) {
  const live = useLive(where, async (signal) => {
    const { text } = await call("GET", where, { signal });
    return text
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  });
  return html`<${Content} live=${live} what="events" rows=${4}>${(events) =>
    events.length === 0
      ? html`<p>No event is stored here.</p>`
      : html`
    <ol class="events">${events.map(
      (one) => html`<li key=${`${one.partition} ${one.offset}`}>
      <p class="fine">partition ${one.partition}, offset ${number(one.offset)}${one.timestamp ? html`, <${When} at=${one.timestamp} />` : ", no timestamp"}${one.key !== null && html`, key <code>${textOf(one.key)}</code>`}</p>
      <pre tabindex="0" role="group" aria-label=${`Value of offset ${one.offset}`}><code>${one.value === null ? "null: a tombstone" : textOf(one.value)}</code></pre>
      ${one.headers.length > 0 && html`<p class="fine">${one.headers.map((header) => `${header.key}: ${header.value === null ? "null" : textOf(header.value)}`).join(" · ")}</p>`}
    </li>`,
    )}</ol>`}<//>
    <${Command} text=${curl("GET", where)} />`;
}

/** Text as it is, other bytes as Base64; long ones cut. */
function textOf(value) {
  const text = typeof value === "string" ? value : `base64 ${value.base64}`;
  return text.length > LONGEST_VALUE ? `${text.slice(0, LONGEST_VALUE)}… (${number(text.length)} characters)` : text;
}
