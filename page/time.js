// Time. Moments are milliseconds since 1970; all that is shown is UTC unless it says otherwise.

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

const format = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", hourCycle: "h23", ...options }).format;
const longDay = format({ day: "numeric", month: "long", year: "numeric" });
const shortDay = format({ day: "numeric", month: "short", year: "numeric" });
const weekday = format({ weekday: "long" });
const monthYear = format({ month: "long", year: "numeric" });
const monthAlone = format({ month: "long" });
const minute = format({ hour: "2-digit", minute: "2-digit" });
const second = format({ hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const iso = (moment) => new Date(moment).toISOString();
export const floor = (moment, unit) => Math.floor(moment / unit) * unit;
export const ceil = (moment, unit) => Math.ceil(moment / unit) * unit;

/** What `2013`, `2013-01`, `2013-01-10` or a time in RFC 3339 begins with; NaN for anything else. */
export function moment(text) {
  if (/^\d{4}$/.test(text)) return Date.parse(`${text}-01-01T00:00:00Z`);
  if (/^\d{4}-\d\d$/.test(text)) return Date.parse(`${text}-01T00:00:00Z`);
  if (/^\d{4}-\d\d-\d\d$/.test(text)) return Date.parse(`${text}T00:00:00Z`);
  return /(Z|[+-]\d\d:\d\d)$/.test(text ?? "") ? Date.parse(text) : Number.NaN;
}

export const yearOf = (at) => iso(at).slice(0, 4);
export const monthOf = (at) => iso(at).slice(0, 7);
export const dayOf = (at) => iso(at).slice(0, 10);

/** The first moment of the month that is so many months away. */
export function addMonths(at, count) {
  const date = new Date(at);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + count, 1);
}

/** 0 for Monday. */
export const weekdayNumber = (at) => (new Date(at).getUTCDay() + 6) % 7;

export const dayWords = longDay;
export const shortDayWords = shortDay;
export const weekdayWords = weekday;
export const monthWords = monthYear;
export const monthName = monthAlone;

/** The time of day, as fine as it has to be. */
export function clock(at) {
  if (at % MINUTE === 0) return minute(at);
  const millis = at % SECOND;
  return millis === 0 ? second(at) : `${second(at)}.${String(millis).padStart(3, "0")}`;
}

/** As `10 Jan 2013, 14:05:09`. */
export const stamp = (at) => `${shortDay(at)}, ${at % SECOND === 0 ? clock(at) : second(at)}`;

/** A window as a person would say it; its end is the first moment that is no longer in it. */
export function windowWords(start, end) {
  const startsDay = start % DAY === 0;
  if (startsDay && end - start === DAY) return longDay(start);
  if (startsDay && start === floorMonth(start) && end === addMonths(start, 1)) return monthYear(start);
  if (startsDay && end % DAY === 0) return `${shortDay(start)} – ${shortDay(end - DAY)}`;
  if (dayOf(start) === dayOf(end - 1)) {
    const until = end % DAY === 0 ? "24:00" : clock(end);
    return `${longDay(start)}, ${clock(start)} – ${until}`;
  }
  return `${shortDay(start)}, ${clock(start)} – ${shortDay(end)}, ${clock(end)}`;
}

/** The time of day of a window that lies within one day. */
export function spanWords(start, end) {
  if (end - start === DAY && start % DAY === 0) return "all day";
  return `${clock(start)} – ${end % DAY === 0 ? "24:00" : clock(end)}`;
}

const floorMonth = (at) => addMonths(at, 0);

const UNITS = [
  ["day", DAY],
  ["hour", HOUR],
  ["minute", MINUTE],
  ["second", SECOND],
];

/** A length of time in one or two units: `7 days`, `1 day 3 hours`, `12 seconds`. */
export function lengthWords(length) {
  const parts = [];
  let rest = Math.max(0, Math.round(length / SECOND) * SECOND);
  for (const [name, unit] of UNITS) {
    const count = Math.floor(rest / unit);
    rest -= count * unit;
    if (count > 0) parts.push(`${count.toLocaleString("en")} ${name}${count === 1 ? "" : "s"}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.join(" ") || "less than a second";
}

/** The same moment on this computer's clock, or null where that is UTC. */
export function localWords(at) {
  if (!Number.isFinite(at) || new Date(at).getTimezoneOffset() === 0) return null;
  return new Intl.DateTimeFormat(undefined, {
    weekday: "short",
    day: "numeric",
    month: "short",
    hour: "2-digit",
    minute: "2-digit",
    timeZoneName: "short",
  }).format(at);
}

/** Cuts `[start, end)` at every multiple of a unit. */
export function cut(start, end, unit) {
  const parts = [];
  for (let at = start; at < end;) {
    const next = Math.min(end, floor(at, unit) + unit);
    parts.push([at, next]);
    at = next;
  }
  return parts;
}
