// One snapshot: how it stands, what it holds and lacks, and why.

import { json, path, post } from "./api.js";
import { curl } from "./curl.js";
import { Events, Files, Partitions, Runs } from "./details.js";
import { useLive } from "./live.js";
import { Action, Command, Content, Facts, Heading, Icon, Meter, ProblemNote, Status, When, html } from "./parts.js";
import { to } from "./route.js";
import { announce } from "./store.js";
import { MINUTE, SECOND, dayOf, lengthWords, localWords, windowWords } from "./time.js";
import { useEffect, useRef, useState } from "./vendor/hooks.js";
import {
  STATUSES,
  bytes,
  count,
  errorAdvice,
  errorWords,
  isOpen,
  losses,
  lostWords,
  number,
  oddities,
  percent,
  statusOf,
} from "./words.js";

/** While it runs it is looked at every second, which costs a 304 as long as nothing has changed. */
const often = ({ document }) =>
  isOpen(document.state) ? SECOND : document.completeness === "sealed" ? MINUTE : 10 * SECOND;

export function Snapshot({ id }) {
  const where = path(["snapshots", id]);
  const live = useLive(
    where,
    async (signal, before) => {
      const { data, etag } = await json("GET", where, { etag: before?.etag, signal });
      return data === null ? before : { document: data, etag };
    },
    often,
  );
  const status = live.data && statusOf(live.data.document);
  const told = useRef(null);
  useEffect(() => {
    if (told.current && status && told.current !== status) announce(`The snapshot is ${STATUSES[status].word} now`);
    told.current = status;
  }, [status]);
  const one = live.data?.document;
  const words = one && windowWords(Date.parse(one.window_start), Date.parse(one.window_end));
  return html`<p class="trail">${one && html`<a href=${to(["coverage", one.topic], { day: dayOf(Date.parse(one.window_start)) })}>${one.topic}</a>`}</p>
    <${Heading} title=${one ? `${one.topic}, ${words}` : "Snapshot"}>${one ? html`${words} <span class="zone">UTC</span>` : "Snapshot"}<//>
    <${Content} live=${live} what="the snapshot">${({ document }) => html`<${Whole} one=${document} reload=${live.reload} />`}<//>`;
}

function Whole({ one, reload }) {
  const [start, end] = [Date.parse(one.window_start), Date.parse(one.window_end)];
  const status = statusOf(one);
  const local = localWords(start);
  const open = isOpen(one.state);
  // Details change with the run, and while it goes on.
  const mark = `${one.run} ${one.state} ${one.completeness} ${one.result?.records}`;
  return html`
    ${local && html`<p class="fine">On this computer's clock: ${local} – ${localWords(end)}</p>`}
    <p class="verdict"><${Status} name=${status} /> <span>${sentence(one, status)}</span></p>
    ${open && html`<${Progress} progress=${one.progress} state=${one.state} />`}
    <${Trouble} one=${one} />
    <${Facts} of=${facts(one)} />
    <${Actions} one=${one} open=${open} reload=${reload} />
    <${Partitions} id=${one.id} mark=${mark} open=${open} />
    ${one.capture === "events" && html`<${Files} id=${one.id} mark=${mark} open=${open} /><${Events} id=${one.id} mark=${mark} />`}
    <${Runs} id=${one.id} told=${one.run} mark=${mark} open=${open} />
    <section><h2>In a terminal</h2>
      <${Command} label="This snapshot with curl" text=${curl("GET", one.links.self)} />
      <${Command} label="Asking for it again" text=${curl("POST", "/v1/snapshots", request(one))} />
    </section>`;
}

/** What asks for the same again. Labels and what a loss means are those of the last request, so they are sent as well. */
const request = (one) => ({
  topic: one.topic,
  window_start: one.window_start,
  window_end: one.window_end,
  ...(one.capture === "offsets" && { capture: "offsets" }),
  ...(one.on_loss === "fail" && { on_loss: "fail" }),
  ...(Object.keys(one.labels).length > 0 && { labels: one.labels }),
});

function sentence(one, status) {
  const held =
    one.result && one.state !== "succeeded"
      ? ` What an earlier run stored stays: ${count(one.result.records, "event")}.`
      : "";
  const means = STATUSES[status].means;
  return `${means[0].toUpperCase()}${means.slice(1)}.${held}`;
}

function facts(one) {
  const result = one.result;
  return [
    ["Events", result && number(result.records)],
    ["Size", result && one.capture === "events" && `${bytes(result.bytes)} in ${count(result.files, "file")}`],
    ["Lost", result && lostWords(result.lost_offsets, result.uncertain_partitions > 0)],
    ["Stores", one.capture === "offsets" && "offset ranges only"],
    ["Run", one.run > 1 || !result ? number(one.run) : `1, which added ${number(result.records_added)}`],
    ["Added by the last run", one.run > 1 && result && count(result.records_added, "event")],
    ["Asked for", html`<${When} at=${one.created_at} />`],
    ["Run began", one.started_at && html`<${When} at=${one.started_at} />`],
    [
      "Run ended",
      one.finished_at &&
        html`<${When} at=${one.finished_at} />${one.started_at && html` <span class="fine">after ${lengthWords(Date.parse(one.finished_at) - Date.parse(one.started_at))}</span>`}`,
    ],
    ["If events are lost", one.on_loss === "fail" && "the run fails"],
    [
      "Labels",
      Object.keys(one.labels).length > 0 &&
        html`<ul class="labels">${Object.entries(one.labels).map(([key, value]) => html`<li key=${key}><a href=${to(["snapshots"], { label: `${key}:${value}` })}>${key}: ${value}</a></li>`)}</ul>`,
    ],
    ["Id", html`<code>${one.id}</code>`],
  ];
}

function Progress({ progress, state }) {
  return html`<section class="progress" aria-label="Progress">
    <${Meter} value=${progress.fraction} label="Progress of the run" kind="large" />
    <p class="fine">${
      state === "queued"
        ? "Not begun."
        : html`${percent(progress.fraction)} of ${count(progress.offsets_total, "offset")} · ${count(progress.records, "event")}${progress.records_per_second > 0 && ` · ${number(progress.records_per_second)} a second`}${progress.eta_seconds !== null && ` · about ${lengthWords(progress.eta_seconds * 1000)} left`}`
    }</p>
  </section>`;
}

/** Errors and losses in plain words; then, small, what is merely odd. */
function Trouble({ one }) {
  const lost = losses(one.result);
  const odd = oddities(one.result);
  return html`
    ${
      one.error &&
      html`<div class="note bad"><p><strong>${errorWords(one.error)}</strong></p><p>${one.error.message}</p>
      <p class="fine">${errorAdvice(one.error)} <code>${one.error.code}</code>
        ${one.error.partition !== null && `, partition ${one.error.partition}`}</p></div>`
    }
    ${
      one.last_error &&
      html`<div class="note"><p><strong>${isOpen(one.state) ? "It is being tried again." : "Bringing it up to date met an error."}</strong></p>
      <p>${one.last_error.message}</p><p class="fine"><code>${one.last_error.code}</code></p></div>`
    }
    ${lost.length > 0 && html`<div class="note warn"><p><${Icon} name="lost" /> <strong>${one.result.lost_offsets > 0 ? "Not" : "Perhaps not"} all of the window is here.</strong></p>${lost.map((said) => html`<p key=${said}>${said}</p>`)}</div>`}
      
    ${odd.map((said) => html`<p class="fine" key=${said}>${said}</p>`)}`;
}

function Actions({ one, open, reload }) {
  const [found, setFound] = useState({ busy: null, error: null });
  const send = (what, words) => async () => {
    setFound({ busy: what, error: null });
    try {
      await post(path(["snapshots", one.id, what]));
      setFound({ busy: null, error: null });
      announce(words);
      reload();
    } catch (error) {
      setFound({ busy: null, error });
    }
  };
  return html`<div class="actions">
      ${
        open
          ? html`<${Action} off=${found.busy} onClick=${send("cancel", "Cancelled")}>Cancel the run<//>`
          : html`<${Action} off=${found.busy} onClick=${send("refresh", "Asked for another run")}>Look for more events<//>`
      }
    </div>
    ${found.error && html`<${ProblemNote} error=${found.error} />`}`;
}
