// The list of snapshots, newest first: a page at a time, kept up to date while somebody looks.

import { get, path } from "./api.js";
import { curl } from "./curl.js";
import { useLive } from "./live.js";
import { Command, Content, Heading, Meter, Status, When, html } from "./parts.js";
import { go, to } from "./route.js";
import { SECOND, moment, windowWords } from "./time.js";
import { useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.js";
import { STATUSES, bytes, isOpen, number, percent, statusOf } from "./words.js";

const PAGE = 50;
const STATES = ["queued", "running", "succeeded", "failed", "cancelled"];
const NAMES = ["topic", "completeness", "window_from", "window_to", "label", "cursor"];

/** `#/snapshots?…`, with the filters and the cursor of the API. */
export function Snapshots({ query }) {
  const filter = {
    ...Object.fromEntries(NAMES.map((name) => [name, query.get(name)])),
    state: query.getAll("state"),
    label: query.getAll("label"),
  };
  const where = path(["snapshots"], { ...filter, limit: PAGE });
  const live = useLive(where, (signal) => get(where, signal), often);
  return html`<${Heading} title="Snapshots" />
    <${Filters} filter=${filter} mark=${query.toString()} />
    <${Content} live=${live} what="snapshots" rows=${10}>${(page) => html`<${Page} page=${page} filter=${filter} />`}<//>
    <${Command} text=${curl("GET", where)} />`;
}

const often = (page) => (page.items.some((one) => isOpen(one.state)) ? 2 : 10) * SECOND;

function Page({ page, filter }) {
  const older = page.next_cursor && to(["snapshots"], { ...filter, cursor: page.next_cursor });
  const newest = filter.cursor && to(["snapshots"], { ...filter, cursor: null });
  if (page.items.length === 0) {
    const narrowed = Object.values(filter).some((value) => value?.length > 0);
    return html`<p class="lead">${narrowed ? "No snapshot is like that." : "There is no snapshot yet."}</p>
      <p>${narrowed ? html`<a href=${to(["snapshots"])}>Show all</a>` : html`<a href=${to(["take"])}>Take one</a>`}</p>`;
  }
  return html`<table class="list wide">
    <caption class="only-read">Snapshots, newest first</caption>
    <thead><tr><th scope="col">Status</th><th scope="col">Topic</th><th scope="col">Window, UTC</th>
      <th scope="col" class="number">Events</th><th scope="col" class="number">Size</th><th scope="col">Asked for</th>
      </tr></thead>
    <tbody>${page.items.map((one) => html`<${Row} key=${one.id} one=${one} mark=${one.updated_at} />`)}</tbody>
  </table>
  <nav class="pager" aria-label="Pages">
    ${newest && html`<a href=${newest}>Newest</a>`}
    ${newest && html`<button type="button" onClick=${() => history.back()}>Back</button>`}
    ${older && html`<a href=${older} rel="next">Older</a>`}
  </nav>`;
}

/** A row is made anew only when its snapshot has changed. */
function Row({ one, mark }) {
  return useMemo(() => {
    const open = isOpen(one.state);
    return html`<tr>
      <td data-label="Status"><${Status} name=${statusOf(one)} />${one.state === "running" && html` <${Meter} value=${one.progress.fraction} label="Progress" /> <span class="fine">${percent(one.progress.fraction)}</span>`}</td>
      <td data-label="Topic">${one.topic}</td>
      <td data-label="Window"><a href=${to(["snapshots", one.id])}>${windowWords(Date.parse(one.window_start), Date.parse(one.window_end))}</a></td>
      <td data-label="Events" class="number">${number(one.result?.records ?? (open ? one.progress.records : 0))}</td>
      <td data-label="Size" class="number">${one.result ? bytes(one.result.bytes) : ""}</td>
      <td data-label="Asked for"><${When} at=${one.created_at} /></td>
    </tr>`;
  }, [one.id, mark]);
}

/** With another `mark` the filter is another one: the fields show it, and the reader stays where they are. */
function Filters({ filter, mark }) {
  const [bad, setBad] = useState(null);
  const form = useRef(null);
  useLayoutEffect(() => {
    fill(form.current.elements, filter);
    setBad(null);
  }, [mark]);
  const apply = (event) => {
    event.preventDefault();
    const data = new FormData(event.currentTarget);
    const times = {};
    for (const name of ["window_from", "window_to"]) {
      const text = data.get(name).trim();
      const at = moment(text);
      if (text && Number.isNaN(at)) return setBad(name);
      times[name] = text;
    }
    setBad(null);
    const labels = data
      .get("label")
      .split(",")
      .map((one) => one.trim());
    return go(
      to(["snapshots"], {
        topic: data.get("topic").trim(),
        state: data.getAll("state"),
        completeness: data.get("completeness"),
        ...utc(times),
        label: labels,
      }),
    );
  };
  const text = (name, label, hint) => html`<label class="field"><span>${label}</span>
    <input name=${name} placeholder=${hint} aria-invalid=${bad === name} aria-describedby=${bad === name ? "bad-time" : undefined} autocomplete="off" spellcheck=${false} /></label>`;
  const narrowed =
    [filter.topic, filter.completeness, filter.window_from, filter.window_to].some(Boolean) ||
    filter.state.length + filter.label.length > 0;
  return html`<form class="filters" ref=${form} onSubmit=${apply} onChange=${(event) => event.target.matches("select, [type=checkbox]") && event.currentTarget.requestSubmit()}>
    ${text("topic", "Topic", "any")}
    <fieldset><legend>State</legend>
      ${STATES.map((state) => html`<label key=${state}><input type="checkbox" name="state" value=${state} />${state}</label>`)}</fieldset>
    <label class="field"><span>Completeness</span><select name="completeness">
      <option value="">any</option>
      ${["provisional", "settled", "sealed"].map((name) => html`<option key=${name} value=${name}>${STATUSES[name].word}</option>`)}
    </select></label>
    ${text("window_from", "Windows from, UTC", "2013-01-10")}
    ${text("window_to", "Up to, UTC", "2013-01-11")}
    ${text("label", "Labels", "key:value")}
    <div class="actions"><button type="submit">Filter</button>${narrowed && html`<a href=${to(["snapshots"])} onClick=${() => form.current.elements.topic.focus()}>Show all</a>`}</div>
    ${bad && html`<p class="note" id="bad-time" role="alert">Write a time as 2013, 2013-01, 2013-01-10 or 2013-01-10T14:00:00Z.</p>`}
  </form>`;
}

function fill(fields, { topic, state, completeness, window_from, window_to, label }) {
  fields.topic.value = topic ?? "";
  fields.completeness.value = completeness ?? "";
  fields.window_from.value = short(window_from ?? "");
  fields.window_to.value = short(window_to ?? "");
  fields.label.value = label.join(", ");
  for (const box of fields.state) box.checked = state.includes(box.value);
}

const utc = (times) =>
  Object.fromEntries(Object.entries(times).map(([name, text]) => [name, text && new Date(moment(text)).toISOString()]));
const short = (text) => text.replace(/T00:00:00\.000Z$/, "").replace(/:00\.000Z$/, ":00Z");
