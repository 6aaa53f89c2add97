// Days as rows of bars, each as long as its window: a month, or one day.

import { target, tell } from "./calendar.js";
import { lanes } from "./cover.js";
import { html, Icon, Status } from "./parts.js";
import { to } from "./route.js";
import {
  DAY,
  HOUR,
  clock,
  cut,
  dayOf,
  dayWords,
  iso,
  monthWords,
  shortDayWords,
  spanWords,
  weekdayNumber,
  weekdayWords,
  windowWords,
} from "./time.js";
import { useRef, useState } from "./vendor/hooks.js";
import { STATUSES, count, number } from "./words.js";

/** More bars than this in a day can't be told apart: then it is shown by the hour. */
const MOST_BARS = 60;
const HOURS = [0, 3, 6, 9, 12, 15, 18, 21];

/** `rows` are cells of a day each; `hours` gives the cells of the hours of one. */
export function Timeline({ topic, rows, hours, here, tip, tall }) {
  const root = useRef(null);
  const [focused, setFocused] = useState(null);
  const onKeyDown = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const next = neighbour(root.current, event);
    if (!next) return;
    event.preventDefault();
    setFocused(next.dataset.at);
    next.focus();
  };
  const bars = rows.map((row) => barsOf(topic, row, hours, here));
  const all = bars.flat();
  const stop = all.some((bar) => bar.key === focused) ? focused : all[0]?.key;
  return html`<div class=${`timeline ${tall ? "tall" : ""}`} role="grid" aria-label="Windows by day" ref=${root} onKeyDown=${onKeyDown} ...${tip.handlers}>
    <div class="scale" role="presentation" aria-hidden="true"><span></span>
      <span class="hours">${HOURS.map((hour) => html`<span key=${hour}>${String(hour).padStart(2, "0")}</span>`)}</span></div>
    ${rows.map(
      (
        row,
        index,
      ) => html`<div class=${`row ${weekdayNumber(row.start) > 4 ? "weekend" : ""}`} role="row" key=${row.start}>
      <div role="rowheader" class="name">${tall ? html`<span>${weekdayWords(row.start)}</span>` : html`<a href=${to(["coverage", topic], { day: dayOf(row.start) })}><span class="weekday" aria-hidden="true">${weekdayWords(row.start).slice(0, 2)}</span> ${new Date(row.start).getUTCDate()}<span class="only-read"> ${monthWords(row.start)}, ${weekdayWords(row.start)}</span></a>`}</div>
      <div class="track" role="presentation">${bars[index].map((bar) => html`<${Bar} key=${bar.key} bar=${bar} active=${bar.key === stop} onFocus=${setFocused} />`)}</div>
    </div>`,
    )}
  </div>`;
}

function barsOf(topic, row, hours, here) {
  const laid = lanes(row, MOST_BARS);
  const place = (start, end, lane, of) => ({
    left: `${((start - row.start) / DAY) * 100}%`,
    width: `${((end - start) / DAY) * 100}%`,
    top: `${(lane / of) * 100}%`,
    height: `${100 / of}%`,
  });
  if (!laid) {
    return hours(row).map((hour) => ({
      key: `${hour.start}`,
      href: target(topic, hour, here, to(["coverage", topic], { day: dayOf(row.start) })),
      says: tell(hour, `${shortDayWords(hour.start)}, ${spanWords(hour.start, hour.end)}`),
      status: hour.status ?? "none",
      icon: hour.status,
      place: place(hour.start, hour.end, 0, 1),
    }));
  }
  return laid.bars.map((bar) => {
    const { window, gap } = bar;
    const quiet = gap && row.status === null;
    return {
      key: window?.id ? `${window.id}:${row.start}` : `${bar.start}`,
      href: window
        ? to(["snapshots", window.id])
        : to(["coverage", topic], { ...here, gap: `${iso(bar.start)}/${iso(bar.end)}` }),
      says: window
        ? windowTip(window)
        : `${windowWords(bar.start, bar.end)}: ${quiet ? "nobody has asked for it" : "missing"}; fill it`,
      status: quiet ? "none" : bar.status,
      icon: bar.end - bar.start >= HOUR / 2 && !quiet ? bar.status : null,
      text: window?.held && bar.end - bar.start >= 4 * HOUR ? count(window.records, "event") : null,
      place: place(bar.start, bar.end, bar.lane, laid.count),
    };
  });
}

const windowTip = (window) =>
  `${windowWords(window.start, window.end)}: ${STATUSES[window.status].word}; ${count(window.records, "event")}` +
  (window.lost > 0 ? `; ${count(window.lost, "offset")} lost` : "");

const Bar = ({ bar, active, onFocus }) => html`<div role="gridcell" class=${`bar is-${bar.status}`} style=${bar.place}>
  <a href=${bar.href} data-at=${bar.key} data-tip=${bar.says} aria-label=${bar.says} tabindex=${active ? 0 : -1} onFocus=${() => onFocus(bar.key)}>
    ${bar.icon && html`<${Icon} name=${bar.icon} />`}${bar.text && html`<span class="text">${bar.text}</span>`}
  </a>
</div>`;

/** The bar that an arrow key leads to: beside it, or the nearest of the row above or below. */
function neighbour(root, event) {
  const bars = [...root.querySelectorAll("a[data-at]")];
  const index = bars.indexOf(event.target);
  if (index < 0) return null;
  const row = (bar) => bar.closest("[role=row]");
  const inRow = (of) => bars.filter((bar) => row(bar) === of);
  switch (event.key) {
    case "ArrowRight":
      return bars[index + 1];
    case "ArrowLeft":
      return bars[index - 1];
    case "Home":
      return inRow(row(event.target))[0];
    case "End":
      return inRow(row(event.target)).at(-1);
    case "ArrowDown":
    case "ArrowUp": {
      const down = event.key === "ArrowDown";
      const other =
        bars[
          down
            ? bars.findLastIndex((bar) => row(bar) === row(event.target)) + 1
            : bars.findIndex((bar) => row(bar) === row(event.target)) - 1
        ];
      if (!other) return null;
      const left = event.target.getBoundingClientRect().left;
      const far = (bar) => Math.abs(bar.getBoundingClientRect().left - left);
      return inRow(row(other)).reduce((best, bar) => (far(bar) < far(best) ? bar : best));
    }
    default:
      return null;
  }
}

/** The hours of a day, as spans. */
export const hoursOf = (start, end) => cut(start, end, HOUR);

/** What a day holds, line by line, with where each line leads. */
export function DayList({ topic, cell, here, most, onMore }) {
  const lines = [
    ...cell.windows.map((window) => ({ key: window.id, start: window.start, end: window.end, window })),
    ...cell.gaps.map((gap) => ({ key: gap.from, start: gap.from, end: gap.to, gap })),
  ].sort((a, b) => a.start - b.start || a.end - b.end);
  const fill = (start, end) => to(["coverage", topic], { ...here, gap: `${iso(start)}/${iso(end)}` });
  return html`<table class="list day-list">
    <caption class="only-read">Windows and gaps of ${dayWords(cell.start)}</caption>
    <thead><tr><th scope="col">Window, UTC</th><th scope="col">Status</th><th scope="col" class="number">Events</th></tr></thead>
    <tbody>${lines.slice(0, most).map(
      ({ key, start, end, window }) => html`<tr key=${key}>
      <td><a href=${window ? to(["snapshots", window.id]) : fill(start, end)}>${!window && "Fill "}${within(start, end, cell)}</a></td>
      <td><${Status} name=${window?.status ?? "missing"} /></td>
      <td class="number">${window?.held ? number(window.records) : ""}</td>
    </tr>`,
    )}</tbody>
  </table>
  ${lines.length > most && html`<p><button type="button" onClick=${onMore}>Show more</button></p>`}`;
}

const within = (start, end, cell) =>
  start >= cell.start && end <= cell.end
    ? `${clock(start)} – ${end % DAY === 0 ? "24:00" : clock(end)}`
    : windowWords(start, end);
