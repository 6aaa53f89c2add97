// When Kafka will remove what is not stored yet, as far as the API can tell.

import { get, path, Problem } from "./api.js";
import { DAY, HOUR, MINUTE, ceil, floor } from "./time.js";

/** How exactly the oldest unstored event is looked for: a fiftieth of the retention, or an hour. */
const precision = (retention) => Math.max(HOUR, retention / 50);

const inKafka = (partitions) => partitions.reduce((sum, one) => sum + one.high_watermark - one.low_watermark, 0);
const lengthOf = (ranges) => ranges.reduce((sum, range) => sum + range.end_offset - range.start_offset, 0);
const missing = (cover) => cover.partitions.reduce((sum, one) => sum + lengthOf(one.missing), 0);

/**
 * Of a topic: `offsets` that Kafka has, and the watermarks of its `partitions`; how many of them are `unstored`, null where that was not
 * found out; since when at the earliest, `since`; and when the first of them `expires`: none is
 * removed before, and from then on they may be.
 */
export async function look(topic, now, signal) {
  const until = ceil(now, HOUR);
  const ask = (what, query) => {
    const times = Object.entries(query).map(([name, at]) => [name, new Date(at).toISOString()]);
    return get(path(["topics", topic.topic, what], Object.fromEntries(times)), signal);
  };
  const retention = topic.retention_ms;
  if (retention === null) {
    const { partitions } = await ask("offsets", { at: until });
    return { offsets: inKafka(partitions), partitions, unstored: null, since: null, expires: null };
  }
  // A segment goes as a whole, so what is older than the retention may still be there.
  const from = Math.max(0, floor(now - 2 * Math.max(retention, HOUR), HOUR));
  let cover;
  try {
    cover = await ask("coverage", { from, to: until });
  } catch (error) {
    if (error instanceof Problem && error.status === 400)
      return { offsets: null, unstored: null, since: null, expires: null };
    throw error;
  }
  const { partitions } = cover;
  const found = { offsets: inKafka(partitions), partitions, unstored: missing(cover), since: null, expires: null };
  if (found.unstored === 0) return found;
  let since = Date.parse(cover.gaps[0]?.window_start ?? cover.from);
  if (urgency(topic, { expires: since + retention }, now) !== "later") {
    const unstored = new Map(
      cover.partitions
        .filter((one) => one.missing.length > 0)
        .map((one) => [one.partition, one.missing[0].start_offset]),
    );
    since = await oldest(unstored, [since, until], precision(retention), (at) => ask("offsets", { at }));
  }
  return { ...found, since, expires: since + retention };
}

/** The latest time that no unstored event is older than, by halving the span again and again. */
async function oldest(unstored, [early, late], exact, boundaries) {
  while (late - early > exact) {
    const middle = floor((early + late) / 2, MINUTE);
    const { partitions } = await boundaries(middle);
    const older = partitions.some(
      (one) => unstored.has(one.partition) && (one.offset === null || one.offset > unstored.get(one.partition)),
    );
    if (older) late = middle;
    else early = middle;
  }
  return early;
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
