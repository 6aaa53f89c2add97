// Asking for snapshots of a span of time: what will be sent, what it would read, and then the asking.

import { get, path, post } from "./api.js";
import { curl } from "./curl.js";
import { useLive } from "./live.js";
import { Action, Command, Facts, ProblemNote, Status, html } from "./parts.js";
import { to } from "./route.js";
import { DAY, HOUR, SECOND, cut, iso, lengthWords, localWords, windowWords } from "./time.js";
import { useState } from "./vendor/hooks.js";
import { STATUSES, count, isOpen, number, statusOf } from "./words.js";

/** More than this is a backfill: that is a scheduler's work. */
const MOST_AT_ONCE = 400;
const LINES_SHOWN = 4;
const PARTITIONS_SHOWN = 12;
const UNITS = { one: null, day: DAY, hour: HOUR };

const request = (topic, [start, end], options) => ({
  topic,
  window_start: iso(start),
  window_end: iso(end),
  ...(options.capture === "offsets" && { capture: "offsets" }),
  ...(options.onLoss === "fail" && { on_loss: "fail" }),
});

/** `whole` is the gap around `[start, end)`, if it is a larger one. */
export function Ask({ topic, start, end, whole, onAsked }) {
  const larger = whole && whole.end - whole.start > end - start ? whole : null;
  const [options, setOptions] = useState({ extent: "part", split: "one", capture: "events", onLoss: "report" });
  const [found, setFound] = useState({ plan: null, error: null, busy: null, asked: [] });
  const set = (change) => {
    setOptions({ ...options, ...change });
    setFound({ plan: null, error: null, busy: null, asked: [] });
  };
  const span = options.extent === "whole" && larger ? [larger.start, larger.end] : [start, end];
  const unit = UNITS[options.split];
  const many = unit ? Math.ceil((span[1] - span[0]) / unit) : 1;
  const windows = many > MOST_AT_ONCE ? [] : unit ? cut(...span, unit) : [span];
  const bodies = windows.map((window) => request(topic, window, options));

  const attempt = async (busy, work) => {
    setFound((before) => ({ ...before, busy, error: null }));
    try {
      const change = await work();
      setFound((before) => ({ ...before, busy: null, ...change }));
    } catch (error) {
      setFound((before) => ({ ...before, busy: null, error }));
    }
  };
  const dryRun = () =>
    attempt("plan", async () => {
      const plan = await post("/v1/snapshots?dry_run=true", request(topic, span, options));
      return { plan };
    });
  const take = () =>
    attempt("take", async () => {
      const asked = [];
      for (const body of bodies) {
        asked.push(await post("/v1/snapshots", body));
        setFound((before) => ({ ...before, asked: [...asked] }));
        if (asked.length % 20 === 0) onAsked?.(null);
      }
      onAsked?.(asked);
      return { asked };
    });

  return html`<div class="ask">
    <p class="lead">${windowWords(...span)} <span class="fine">UTC, ${lengthWords(span[1] - span[0])}</span></p>
    <${Local} span=${span} />
    <${Options} options=${options} set=${set} larger=${larger} span=${span} />
    ${
      many > MOST_AT_ONCE
        ? html`<p class="note">That would be ${number(many)} snapshots. From here ${MOST_AT_ONCE} at once are the most: choose larger windows, or let Airflow backfill them.</p>`
        : html`<${Command} text=${lines(bodies)} label=${bodies.length === 1 ? "The request" : `The ${number(bodies.length)} requests`} />`
    }
    <div class="actions">
      <${Action} primary=${!found.plan} off=${found.busy || many > MOST_AT_ONCE} onClick=${dryRun}>
        ${found.busy === "plan" ? "Asking Kafka …" : "Show what would be read"}<//>
      <${Action} primary=${found.plan} off=${!found.plan || found.busy || found.asked.length > 0} onClick=${take}>
        ${found.busy === "take" ? `Asking, ${found.asked.length} of ${windows.length} …` : windows.length > 1 ? `Take ${number(windows.length)} snapshots` : "Take the snapshot"}<//>
    </div>
    <div aria-live="polite">
      ${found.error && html`<${ProblemNote} error=${found.error} />`}
      ${found.plan && found.asked.length === 0 && html`<${Plan} plan=${found.plan} />`}
      ${found.asked.length > 0 && html`<${Asked} topic=${topic} asked=${found.asked} />`}
    </div>
  </div>`;
}

const lines = (bodies) => {
  const shown = bodies.slice(0, LINES_SHOWN).map((body) => curl("POST", "/v1/snapshots", body));
  return shown.join("\n\n") + (bodies.length > LINES_SHOWN ? `\n\n# and so on, ${bodies.length} in all` : "");
};

function Local({ span }) {
  const [start, end] = span.map(localWords);
  return start && html`<p class="fine">On this computer's clock: ${start} – ${end}</p>`;
}

function Options({ options, set, larger, span }) {
  const length = span[1] - span[0];
  const radio = (
    name,
    value,
    label,
  ) => html`<label key=${value}><input type="radio" name=${name} checked=${options[name] === value}
    onChange=${() => set({ [name]: value })} />${label}</label>`;
  return html`<div class="options">
    ${
      larger &&
      html`<fieldset><legend>Span</legend>
      ${radio("extent", "part", "what was chosen")}
      ${radio("extent", "whole", html`the whole gap, <span>${windowWords(larger.start, larger.end)}</span>`)}
    </fieldset>`
    }
    ${
      length > HOUR &&
      html`<fieldset><legend>Windows</legend>
      ${radio("split", "one", "one snapshot")}
      ${length > DAY && radio("split", "day", "one a day")}
      ${radio("split", "hour", "one an hour")}
    </fieldset>`
    }
    <details><summary>More</summary>
      <fieldset><legend>Store</legend>${radio("capture", "events", "the events")}${radio("capture", "offsets", "only the offset ranges")}</fieldset>
      <fieldset><legend>If events are lost</legend>
        ${radio("onLoss", "report", "count and report them")}${radio("onLoss", "fail", "let the run fail")}</fieldset>
    </details>
  </div>`;
}

const planWords = (plan) =>
  `${count(plan.offsets_to_read, "offset")} would be read` +
  (plan.offsets_stored > 0
    ? `, ${number(plan.offsets_stored)} ${plan.offsets_stored === 1 ? "is" : "are"} stored already`
    : "") +
  (plan.lost_offsets > 0
    ? `, ${number(plan.lost_offsets)} ${plan.lost_offsets === 1 ? "is" : "are"} gone for good`
    : "");

function Plan({ plan }) {
  const some = plan.partitions.slice(0, PARTITIONS_SHOWN);
  return html`<section class="plan" aria-label="What would be read">
    <p><strong>${planWords(plan)}.</strong> The snapshot would be <${Status} name=${plan.completeness} />: ${STATUSES[plan.completeness].means}.</p>
    ${plan.offsets_to_read + plan.offsets_stored + plan.lost_offsets === 0 && html`<p>No event lies in this window. Taking it records just that.</p>`}
    ${plan.uncertain_partitions > 0 && html`<p class="note">In ${count(plan.uncertain_partitions, "partition")} retention may have taken events already.</p>`}
    <div class="scroll" tabindex="0" role="group" aria-label="The plan by partition"><table class="list">
      <thead><tr><th scope="col">Partition</th><th scope="col" class="number">From offset</th>
        <th scope="col" class="number">To offset</th><th scope="col" class="number">Would read</th>
        <th scope="col" class="number">Stored</th><th scope="col" class="number">Lost</th></tr></thead>
      <tbody>${some.map(
        (one) => html`<tr key=${one.partition}><td>${one.partition}</td>
        <td class="number">${number(one.start_offset)}</td><td class="number">${number(one.end_offset)}</td>
        <td class="number">${number(one.offsets_to_read)}</td><td class="number">${number(one.stored_offsets)}</td>
        <td class="number">${number(one.lost_offsets)}</td></tr>`,
      )}</tbody>
    </table></div>
    ${plan.partitions.length > some.length && html`<p class="fine">and ${count(plan.partitions.length - some.length, "more partition")}</p>`}
  </section>`;
}

function Asked({ topic, asked }) {
  if (asked.length > 1) {
    return html`<p class="note good"><strong>${count(asked.length, "snapshot")} asked for.</strong> <a href=${to(["snapshots"], { topic })}>Watch them</a></p>`;
  }
  return html`<${AskedOne} asked=${asked[0]} />`;
}

/** What becomes of it: most are done before anybody has looked for them. */
function AskedOne({ asked }) {
  const where = path(["snapshots", asked.id]);
  const every = ({ state }) => (isOpen(state) ? SECOND : null);
  const one = useLive(where, (signal) => get(where, signal), every).data ?? asked;
  return html`<div class="note good"><p><strong>Asked for.</strong> <a href=${to(["snapshots", one.id])}>Watch the snapshot</a></p>
    <${Facts} of=${[
      ["State", html`<${Status} name=${statusOf(one)} />`],
      ["Id", html`<code>${one.id}</code>`],
    ]} /></div>`;
}
