// A year of days. One stop for the tab key; arrows go from day to day and week to week.

import { html, Icon } from "./parts.js";
import { to } from "./route.js";
import {
  DAY,
  addMonths,
  dayOf,
  dayWords,
  iso,
  monthName,
  monthOf,
  monthWords,
  shortDayWords,
  weekdayNumber,
} from "./time.js";
import { useEffect, useRef, useState } from "./vendor/hooks.js";
import { STATUSES, count, lostWords, number } from "./words.js";

const WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/** What a cell says, to a screen reader and in its tip. */
export function tell(cell, when) {
  const parts = [cell.status ? STATUSES[cell.status].word : "nobody has asked for it"];
  if (cell.gaps.length > 0 && cell.windows.length > 0) parts.push(`${Math.floor(cell.held * 100)} % of the time held`);
  if (cell.windows.length > 0) parts.push(`${count(cell.windows.length, "snapshot")}, ${count(cell.records, "event")}`);
  if (cell.lost > 0) parts.push(`${count(cell.lost, "offset")} lost`);
  return `${when}: ${parts.join("; ")}`;
}

/** Where a click on a cell leads: to its snapshot, to what is in it, or to filling it. */
export function target(topic, cell, here, deeper) {
  if (cell.windows.length === 1 && cell.gaps.length === 0) return to(["snapshots", cell.windows[0].id]);
  if (cell.windows.length === 0)
    return to(["coverage", topic], { ...here, gap: `${iso(cell.start)}/${iso(cell.end)}` });
  return deeper;
}

/** The keys of a grid of days, by what they move by. */
function step(key, at) {
  switch (key) {
    case "ArrowLeft":
      return at - DAY;
    case "ArrowRight":
      return at + DAY;
    case "ArrowUp":
      return at - 7 * DAY;
    case "ArrowDown":
      return at + 7 * DAY;
    case "Home":
      return at - weekdayNumber(at) * DAY;
    case "End":
      return at + (6 - weekdayNumber(at)) * DAY;
    case "PageUp":
      return Math.min(addMonths(at, -1) + (new Date(at).getUTCDate() - 1) * DAY, addMonths(at, 0) - DAY);
    case "PageDown":
      return Math.min(addMonths(at, 1) + (new Date(at).getUTCDate() - 1) * DAY, addMonths(at, 2) - DAY);
    default:
      return null;
  }
}

/** `cells` by day, for the days of `from` to `to` that are not in the future. */
export function Year({ topic, from, until, cells, tip }) {
  const byDay = new Map(cells.map((cell) => [cell.start, cell]));
  const last = cells.at(-1)?.start ?? from;
  const first = cells.findLast((cell) => cell.status)?.start ?? last;
  const [focused, setFocused] = useState(null);
  const active = byDay.has(focused) ? focused : first;
  const root = useRef(null);
  const onKeyDown = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const next = step(event.key, active);
    if (next === null) return;
    event.preventDefault();
    // Beyond the first and the last day, and in a month that is not shown, there is nothing.
    const day = Math.max(from, Math.min(last, next));
    const element = root.current.querySelector(`[data-at="${day}"]`);
    if (!element) return;
    setFocused(day);
    element.focus();
  };
  const months = [];
  for (let month = from; month <= last && month < until; month = addMonths(month, 1)) months.push(month);
  // Months that nobody has asked for tell nothing: they are named, so that the others are seen.
  const told = (month) => cells.some((cell) => cell.status && cell.start >= month && cell.start < addMonths(month, 1));
  const shown = months.some(told) ? months.filter((month) => told(month)) : months.slice(-3);
  const silent = months.filter((month) => !shown.includes(month));
  return html`<div class="year" ref=${root} onKeyDown=${onKeyDown} ...${tip.handlers}>
    ${shown.map((month) => html`<${Month} key=${month} topic=${topic} month=${month} byDay=${byDay} active=${active} onFocus=${setFocused} />`)}
  </div>
  ${silent.length > 0 && html`<p class="silent">Nobody has asked for ${silent.map((month, index) => html`${index > 0 && ", "}<a href=${to(["coverage", topic], { month: monthOf(month) })}>${monthName(month)}</a>`)}.</p>`}`;
}

function Month({ topic, month, byDay, active, onFocus }) {
  const end = addMonths(month, 1);
  const weeks = [];
  for (let monday = month - weekdayNumber(month) * DAY; monday < end; monday += 7 * DAY) {
    weeks.push(Array.from({ length: 7 }, (_, day) => monday + day * DAY));
  }
  const here = { year: String(new Date(month).getUTCFullYear()) };
  const name = monthWords(month);
  return html`<section class="month">
    <h3><a href=${to(["coverage", topic], { month: monthOf(month) })} aria-label=${`${name}, hour by hour`}>${monthName(month)}</a></h3>
    <table role="grid" aria-label=${name}>
      <thead><tr>${WEEKDAYS.map(
        (day) => html`<th scope="col" abbr=${day} key=${day}><span aria-hidden="true">${day[0]}</span>
        <span class="only-read">${day}</span></th>`,
      )}</tr></thead>
      <tbody>${weeks.map(
        (week) =>
          html`<tr key=${week[0]}>${week.map((day) =>
            day < month || day >= end
              ? html`<td key=${day} class="outside"></td>`
              : html`<${Day} key=${day} topic=${topic} day=${day} here=${here} cell=${byDay.get(day)} active=${day === active} onFocus=${onFocus} />`,
          )}</tr>`,
      )}
      </tbody>
    </table>
  </section>`;
}

function Day({ topic, day, here, cell, active, onFocus }) {
  const digits = new Date(day).getUTCDate();
  if (!cell) return html`<td class="day future"><span>${digits}</span></td>`;
  const status = cell.status ?? "none";
  const href = target(topic, cell, here, to(["coverage", topic], { day: dayOf(day) }));
  const partly = cell.held > 0 && cell.held < 1;
  return html`<td class=${`day is-${status}`}>
    <a href=${href} data-at=${day} data-tip=${tell(cell, shortDayWords(day))} aria-label=${tell(cell, dayWords(day))}
      tabindex=${active ? 0 : -1} onFocus=${() => onFocus(day)}>
      <span class="digits">${digits}</span>
      ${cell.status && html`<${Icon} name=${cell.status} />`}
      ${partly && html`<span class="held" style=${{ width: `${cell.held * 100}%` }}></span>`}
    </a>
  </td>`;
}

/** A tip for whatever has `data-tip`, when it is pointed at, focused or touched; Escape hides it. */
export function useTip() {
  const [tip, setTip] = useState(null);
  const hide = () => setTip(null);
  const show = (event) => {
    const element = event.target.closest?.("[data-tip]");
    if (!element) return hide();
    const box = element.getBoundingClientRect();
    const half = 150;
    const middle = Math.max(half + 8, Math.min(innerWidth - half - 8, box.left + box.width / 2));
    const below = box.top < 90;
    setTip({ text: element.dataset.tip, left: middle, top: below ? box.bottom + 8 : box.top - 8, below });
  };
  useEffect(() => {
    const onKey = (event) => event.key === "Escape" && hide();
    addEventListener("keydown", onKey);
    addEventListener("scroll", hide, { passive: true });
    return () => {
      removeEventListener("keydown", onKey);
      removeEventListener("scroll", hide);
    };
  }, []);
  const handlers = { onMouseOver: show, onMouseLeave: hide, onFocusIn: show, onFocusOut: hide };
  // What it says is the label of what it belongs to, so it need not be read twice.
  const element =
    tip &&
    html`<div class=${`tip ${tip.below ? "below" : ""}`} aria-hidden="true" style=${{ left: `${tip.left}px`, top: `${tip.top}px` }}>${tip.text}</div>`;
  return { handlers, element };
}

export function Legend() {
  const names = ["sealed", "settled", "provisional", "lost", "failed", "running", "missing"];
  return html`<details class="legend">
    <summary><span class="keys">${names.map((name) => html`<span class=${`key is-${name}`} key=${name}><${Icon} name=${name} />${STATUSES[name].word}</span>`)}</span></summary>
    <dl>${Object.keys(STATUSES).map(
      (
        name,
      ) => html`<div key=${name}><dt class=${`status is-${name}`}><${Icon} name=${name} />${STATUSES[name].word}</dt>
      <dd>${STATUSES[name].means}</dd></div>`,
    )}</dl>
  </details>`;
}

/** One line on what the numbers come to. */
export function summary(cover) {
  const parts = [`${count(cover.stored, "offset")} stored`];
  parts.push(cover.unread > 0 ? `${number(cover.unread)} in Kafka not stored` : "all that Kafka has is stored");
  parts.push(lostWords(cover.lost, cover.uncertain, " lost"));
  return parts.join(", ");
}
