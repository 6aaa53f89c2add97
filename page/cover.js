// What is held of a topic in a span of time: asked for, put together, and cut into days and hours.

import { get, path, Problem } from "./api.js";
import { DAY, MINUTE, ceil, floor } from "./time.js";
import { isOpen, statusOf, worse } from "./words.js";

/** So many windows are asked for at once; the API tells of 20,000 at most. */
const AT_ONCE = 12_000;

/**
 * The coverage of a span, in as many parts as it takes by what `facts` say of the topic's windows.
 * Where that is not enough, because they are dense somewhere, a part is halved, down to a day.
 */
export async function load(topic, from, to, signal, before, facts) {
  const started = performance.now();
  const documents = [];
  for (const [start, end] of parts(from, to, facts)) documents.push(...(await ask(topic, start, end, signal)));
  const cover = combine(topic, documents, { from, to });
  cover.took = performance.now() - started;
  cover.mark = JSON.stringify([cover.windows, cover.gaps, cover.stored, cover.unread, cover.lost]);
  return before && before.mark === cover.mark ? Object.assign(before, { took: cover.took }) : cover;
}

/** The span in parts that may hold about as many windows each. */
export function parts(from, to, facts) {
  const [first, last] = [Date.parse(facts?.oldest_window_start ?? ""), Date.parse(facts?.newest_window_end ?? "")];
  const [start, end] = [Math.max(from, first), Math.min(to, last)];
  if (!(start < end)) return [[from, to]];
  const count = Math.ceil((facts.snapshots * (end - start)) / (last - first) / AT_ONCE);
  const cuts = Array.from({ length: count - 1 }, (_, part) => floor(start + ((end - start) * (part + 1)) / count, DAY));
  const edges = [from, ...new Set(cuts.filter((cut) => cut > from && cut < to)), to];
  return edges.slice(1).map((edge, part) => [edges[part], edge]);
}

async function ask(topic, from, to, signal) {
  const query = { from: new Date(from).toISOString(), to: new Date(to).toISOString() };
  try {
    return [await get(path(["topics", topic, "coverage"], query), signal)];
  } catch (error) {
    const tooMany = error instanceof Problem && error.document.errors?.some((one) => one.pointer === "to");
    if (!tooMany || to - from <= DAY) throw error;
    const middle = ceil((from + to) / 2, DAY);
    if (middle >= to) throw error;
    const halves = [];
    for (const [start, end] of [
      [from, middle],
      [middle, to],
    ])
      halves.push(...(await ask(topic, start, end, signal)));
    return halves;
  }
}

const lengthOf = (ranges) => ranges.reduce((sum, range) => sum + range.end_offset - range.start_offset, 0);

/** One coverage of several documents of spans that touch. */
export function combine(topic, documents, { from, to }) {
  const windows = new Map();
  const gaps = [];
  const sums = { stored: 0, unread: 0, lost: 0 };
  for (const document of documents) {
    for (const window of document.windows) {
      windows.set(window.snapshot_id, {
        id: window.snapshot_id,
        start: Date.parse(window.window_start),
        end: Date.parse(window.window_end),
        status: statusOf(window),
        held: window.completeness !== null,
        open: isOpen(window.state),
        records: window.records,
        lost: window.lost_offsets,
        uncertain: window.uncertain_partitions > 0,
      });
    }
    for (const gap of document.gaps) {
      const [start, end] = [Date.parse(gap.window_start), Date.parse(gap.window_end)];
      const last = gaps.at(-1);
      if (last?.end === start) last.end = end;
      else gaps.push({ start, end });
    }
    for (const partition of document.partitions) {
      sums.stored += lengthOf(partition.stored);
      sums.unread += lengthOf(partition.missing);
      sums.lost += lengthOf(partition.lost);
    }
  }
  const sorted = [...windows.values()].sort((a, b) => a.start - b.start || a.end - b.end);
  const uncertain = sorted.some((window) => window.uncertain);
  const complete = documents.every((one) => one.complete);
  return { topic, from, to, windows: sorted, gaps, ...sums, uncertain, complete };
}

/** Those of a sorted list that overlap each of the spans `[start, end)`, which follow one another. */
function* overlapping(sorted, spans) {
  // A long one may begin long before: the open ones are carried along.
  let next = 0;
  let carried = [];
  for (const [start, end] of spans) {
    const first = next;
    while (next < sorted.length && sorted[next].start < end) next += 1;
    carried = [...carried, ...sorted.slice(first, next)].filter((one) => one.end > start);
    yield carried;
  }
}

/**
 * For each span what a cell shows: its worst status, the part of it that is held, its windows and
 * its gaps. `known` is the time between the first and the last window that there is: outside of
 * it, a gap is just time that nobody asked for.
 */
export function cells(cover, spans, known) {
  const windows = overlapping(cover.windows, spans);
  const gaps = overlapping(cover.gaps, spans);
  return spans.map(([start, end]) => {
    const here = windows.next().value;
    const open = gaps
      .next()
      .value.map((gap) => ({ ...gap, from: Math.max(gap.start, start), to: Math.min(gap.end, end) }));
    return cell(start, end, here, open, known);
  });
}

function cell(start, end, windows, gaps, known) {
  const lacking = gaps.reduce((sum, gap) => sum + gap.to - gap.from, 0);
  let status = null;
  for (const window of windows) {
    const covered = window.held || !gaps.some((gap) => gap.from < window.end && gap.to > window.start);
    // A window that came to nothing is no news where others have all of its time.
    const stale = covered && !window.held && (window.status === "failed" || window.status === "cancelled");
    if (!stale) status = worse(status, window.status);
  }
  const asked = gaps.some((gap) => gap.from < known.end && gap.to > known.start);
  if (lacking > 0 && (asked || windows.length > 0)) status = worse(status, "missing");
  return {
    start,
    end,
    status,
    windows,
    gaps,
    held: 1 - lacking / (end - start),
    records: windows.reduce((sum, window) => sum + window.records, 0),
    lost: windows.reduce((sum, window) => sum + window.lost, 0),
  };
}

/**
 * Windows and gaps of a day as bars, in as few rows as they need; null where there are more than
 * can be told apart. A gap is always in the first row, where nothing else is.
 */
export function lanes(cell, most) {
  const bars = [
    ...cell.windows.map((window) => ({
      window,
      status: window.status,
      start: Math.max(window.start, cell.start),
      end: Math.min(window.end, cell.end),
    })),
    ...cell.gaps.map((gap) => ({ gap, status: "missing", start: gap.from, end: gap.to })),
  ].sort((a, b) => a.start - b.start || b.end - a.end);
  if (bars.length > most) return null;
  const ends = [];
  for (const bar of bars) {
    let lane = ends.findIndex((end) => end <= bar.start);
    if (lane < 0) lane = ends.length;
    ends[lane] = bar.end;
    bar.lane = lane;
  }
  return { bars, count: Math.max(1, ends.length) };
}

/** How soon to ask again: often while something runs, less often the longer an answer takes. */
export function interval({ windows, took = 0 }) {
  const moving = windows.some((window) => window.open);
  return moving ? Math.max(2000, 5 * took) : Math.max(MINUTE / 2, 20 * took);
}
