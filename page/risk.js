// When Kafka will remove what is not stored yet, as far as the API can tell.

import { get, path, Problem } from "./api.js";
import { DAY, HOUR, ceil } from "./time.js";

/** So many gaps are looked into, oldest first, for one that holds events. */
const MOST_GAPS = 6;

const inKafka = (partitions) => partitions.reduce((sum, one) => sum + one.high_watermark - one.low_watermark, 0);
const lengthOf = (ranges) => ranges.reduce((sum, range) => sum + range.end_offset - range.start_offset, 0);
const missing = (cover) => cover.partitions.reduce((sum, one) => sum + lengthOf(one.missing), 0);

/**
 * Of a topic: `offsets` that Kafka has; how many of them are `unstored`, null where that was not
 * found out; `since` when there is something unstored; and when that `expires`: nothing there is
 * removed before, and from then on everything may be.
 */
export async function look(topic, now, signal) {
  const until = ceil(now, HOUR);
  if (topic.retention_ms === null) {
    const offsets = await get(path(["topics", topic.topic, "offsets"], { at: new Date(until).toISOString() }), signal);
    return { offsets: inKafka(offsets.partitions), unstored: null, since: null, expires: null };
  }
  // A segment goes as a whole, so what is older than the retention may still be there.
  const from = Math.max(0, Math.floor((now - 2 * Math.max(topic.retention_ms, HOUR)) / HOUR) * HOUR);
  const covered = (start, end) =>
    get(path(["topics", topic.topic, "coverage"], { from: new Date(start).toISOString(), to: new Date(end).toISOString() }), signal);
  let cover;
  try {
    cover = await covered(from, until);
  } catch (error) {
    if (error instanceof Problem && error.status === 400) return { offsets: null, unstored: null, since: null, expires: null };
    throw error;
  }
  const found = { offsets: inKafka(cover.partitions), unstored: missing(cover), since: null, expires: null };
  if (found.unstored === 0) return found;
  found.since = await firstWithEvents(cover.gaps, covered);
  found.expires = found.since + topic.retention_ms;
  return found;
}

/** The start of the oldest gap that holds something which is still there. */
async function firstWithEvents(gaps, covered) {
  const spans = gaps.map((gap) => [Date.parse(gap.window_start), Date.parse(gap.window_end)]);
  if (spans.length === 0) return Date.now();
  for (const [start, end] of spans.slice(0, MOST_GAPS - 1)) {
    if (spans.length === 1 || missing(await covered(start, end)) > 0) return start;
  }
  return spans[Math.min(spans.length, MOST_GAPS) - 1][0];
}

/** How urgent it is: `now` it may be going, `soon` within a day or a tenth of the retention, `later`, or `safe`. */
export function urgency(topic, risk, now) {
  if (!risk || risk.expires === null) return "safe";
  const left = risk.expires - now;
  if (left <= 0) return "now";
  return left <= Math.max(Math.min(DAY, topic.retention_ms / 2), topic.retention_ms / 10) ? "soon" : "later";
}

const ORDER = ["now", "soon", "later", "safe"];

/** Most urgent first, then by name. */
export const byRisk = (now) => (a, b) =>
  ORDER.indexOf(urgency(a.topic, a.risk, now)) - ORDER.indexOf(urgency(b.topic, b.risk, now)) ||
  (a.risk?.expires ?? Infinity) - (b.risk?.expires ?? Infinity) ||
  a.topic.topic.localeCompare(b.topic.topic);
