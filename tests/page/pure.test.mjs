// What the page computes, without a browser: time, routes, coverage.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

const module = (name) => import(`${process.env.PAGE_ROOT}/page/${name}`);
// The modules ask the browser for these when they are loaded.
globalThis.location ??= { hash: "", origin: "http://127.0.0.1:8080" };
globalThis.document ??= {};
const time = await module("time.js");
const { read, to } = await module("route.js");
const { cells, combine, lanes, parts } = await module("cover.js");
const { byRisk, urgency } = await module("risk.js");
const { summary, target, tell } = await module("calendar.js");
const { curl } = await module("curl.js");
const words = await module("words.js");

const at = (text) => Date.parse(`${text}Z`);

test("windows are said as a person would say them", () => {
  for (const [start, end, said] of [
    ["2013-01-10T00:00", "2013-01-11T00:00", "10 January 2013"],
    ["2013-01-01T00:00", "2013-02-01T00:00", "January 2013"],
    ["2013-01-10T00:00", "2013-01-12T00:00", "10 Jan 2013 – 11 Jan 2013"],
    ["2013-01-10T14:00", "2013-01-10T15:00", "10 January 2013, 14:00 – 15:00"],
    ["2013-01-10T23:00", "2013-01-11T00:00", "10 January 2013, 23:00 – 24:00"],
    ["2013-01-10T23:00", "2013-01-11T01:00", "10 Jan 2013, 23:00 – 11 Jan 2013, 01:00"],
    ["2013-01-10T14:00:00.250", "2013-01-10T14:00:09", "10 January 2013, 14:00:00.250 – 14:00:09"],
  ])
    assert.equal(time.windowWords(at(start), at(end)), said);
});

test("lengths are said in at most two units", () => {
  for (const [length, said] of [
    [7 * time.DAY, "7 days"],
    [time.DAY + 3 * time.HOUR + 20 * time.MINUTE, "1 day 3 hours"],
    [time.DAY + time.MINUTE, "1 day"],
    [12_400, "12 seconds"],
    [10, "less than a second"],
    [-time.DAY, "less than a second"],
  ])
    assert.equal(time.lengthWords(length), said);
});

test("a moment needs a zone, or is a whole day, month or year", () => {
  assert.equal(time.moment("2013"), at("2013-01-01T00:00"));
  assert.equal(time.moment("2013-02"), at("2013-02-01T00:00"));
  assert.equal(time.moment("2013-02-03"), at("2013-02-03T00:00"));
  assert.equal(time.moment("2013-02-03T04:00:00+01:00"), at("2013-02-03T03:00"));
  for (const bad of ["2013-02-03T04:00:00", "yesterday", "", null, undefined])
    assert.ok(Number.isNaN(time.moment(bad)), bad);
});

test("a week begins on Monday, and a span is cut where the clock strikes", () => {
  assert.equal(time.weekdayNumber(at("2013-01-07T00:00")), 0);
  assert.equal(time.weekdayNumber(at("2013-01-13T00:00")), 6);
  assert.deepEqual(time.cut(at("2013-01-07T08:30"), at("2013-01-07T10:15"), time.HOUR), [
    [at("2013-01-07T08:30"), at("2013-01-07T09:00")],
    [at("2013-01-07T09:00"), at("2013-01-07T10:00")],
    [at("2013-01-07T10:00"), at("2013-01-07T10:15")],
  ]);
});

test("routes survive what a topic may be called, and lists", () => {
  const link = to(["coverage", "a.b_c-d"], { gap: "2013-01-01T00:00:00Z/2013-01-02T00:00:00Z", none: null, empty: "" });
  assert.equal(link, "#/coverage/a.b_c-d?gap=2013-01-01T00:00:00Z/2013-01-02T00:00:00Z");
  const { path, query } = read(to(["snapshots"], { label: ["a:b&c=d", "e: f/ü"], state: [] }));
  assert.deepEqual(path, ["snapshots"]);
  assert.deepEqual(query.getAll("label"), ["a:b&c=d", "e: f/ü"]);
  assert.deepEqual(read("#/coverage/100%").path, ["coverage", "100%"]);
});

const snapshot = (id, start, end, more) => ({
  snapshot_id: id,
  window_start: `${start}Z`,
  window_end: `${end}Z`,
  state: "succeeded",
  completeness: "sealed",
  records: 10,
  lost_offsets: 0,
  uncertain_partitions: 0,
  ...more,
});
const cover = (windows, gaps, more) =>
  combine(
    "t",
    [
      {
        windows,
        gaps: gaps.map(([start, end]) => ({ window_start: `${start}Z`, window_end: `${end}Z` })),
        partitions: [],
        complete: false,
        ...more,
      },
    ],
    { from: 0, to: 1 },
  );
const days = (from, count) =>
  Array.from({ length: count }, (_, day) => [at(from) + day * time.DAY, at(from) + (day + 1) * time.DAY]);

test("a day shows the worst of what it holds, and how much of it is held", () => {
  const all = cover(
    [
      snapshot("a", "2013-01-01T00:00", "2013-01-02T00:00"),
      snapshot("b", "2013-01-02T00:00", "2013-01-02T12:00", { lost_offsets: 3 }),
      snapshot("c", "2013-01-02T12:00", "2013-01-03T00:00", { completeness: "settled" }),
      snapshot("d", "2013-01-03T00:00", "2013-01-03T06:00", { completeness: "provisional" }),
      snapshot("e", "2013-01-05T00:00", "2013-01-06T00:00", { state: "failed", completeness: null, records: 0 }),
      snapshot("f", "2013-01-06T00:00", "2013-01-07T00:00", { state: "failed" }),
    ],
    [
      ["2013-01-03T06:00", "2013-01-06T00:00"],
      ["2013-01-07T00:00", "2013-01-09T00:00"],
    ],
  );
  const found = cells(all, days("2013-01-01T00:00", 8), { start: at("2013-01-01T00:00"), end: at("2013-01-07T00:00") });
  assert.deepEqual(
    found.map((cell) => cell.status),
    ["sealed", "lost", "missing", "missing", "failed", "failed", null, null],
  );
  assert.deepEqual(
    found.map((cell) => cell.held),
    [1, 1, 0.25, 0, 0, 1, 0, 0],
  );
  assert.deepEqual(
    found.map((cell) => cell.windows.length),
    [1, 2, 1, 0, 1, 1, 0, 0],
  );
});

test("a cell leads to its snapshot only if that has all of its time", () => {
  const windows = [{ id: "a" }];
  const gap = { from: 0, to: time.HOUR };
  const cell = { start: 0, end: time.DAY, windows, gaps: [] };
  const here = { year: "1970" };
  assert.equal(target("t", cell, here, "deeper"), "#/snapshots/a");
  assert.equal(target("t", { ...cell, gaps: [gap] }, here, "deeper"), "deeper");
  assert.equal(target("t", { ...cell, windows: [...windows, { id: "b" }] }, here, "deeper"), "deeper");
  assert.equal(
    target("t", { ...cell, windows: [], gaps: [gap] }, here, "deeper"),
    "#/coverage/t?year=1970&gap=1970-01-01T00:00:00.000Z/1970-01-02T00:00:00.000Z",
  );
});

test("a cell and a calendar are told in words, with what is lost", () => {
  const cell = { status: "lost", windows: [1, 2], gaps: [1], held: 0.259, records: 1200, lost: 1 };
  assert.equal(tell(cell, "Day"), "Day: partial loss; 25 % of the time held; 2 snapshots, 1,200 events; 1 offset lost");
  assert.equal(tell({ status: null, windows: [], gaps: [1], held: 0, lost: 0 }, "Day"), "Day: nobody has asked for it");
  assert.equal(
    summary({ stored: 5000, unread: 42, lost: 3 }),
    "5,000 offsets stored, 42 in Kafka not stored, 3 offsets lost",
  );
  assert.equal(
    summary({ stored: 1, unread: 0, lost: 0 }),
    "1 offset stored, all that Kafka has is stored, nothing lost",
  );
  assert.match(summary({ stored: 1, unread: 0, lost: 0, uncertain: true }), /, perhaps some lost$/);
  assert.match(summary({ stored: 1, unread: 0, lost: 1, uncertain: true }), /, 1 offset lost, perhaps more$/);
});

test("what came to nothing is no news where others hold all of its time", () => {
  const all = cover(
    [
      snapshot("a", "2013-01-01T00:00", "2013-01-02T00:00"),
      snapshot("b", "2013-01-01T06:00", "2013-01-01T07:00", { state: "cancelled", completeness: null }),
    ],
    [],
  );
  assert.equal(cells(all, days("2013-01-01T00:00", 1), { start: 0, end: Infinity })[0].status, "sealed");
});

test("a long window is in every cell that it covers", () => {
  const all = cover(
    [snapshot("a", "2013-01-01T00:00", "2013-01-04T00:00"), snapshot("b", "2013-01-02T00:00", "2013-01-03T00:00")],
    [],
  );
  const found = cells(all, days("2013-01-01T00:00", 4), { start: 0, end: Infinity });
  assert.deepEqual(
    found.map((cell) => cell.windows.map((window) => window.id).join("")),
    ["a", "ab", "a", ""],
  );
});

test("bars that overlap get rows of their own, and too many are none", () => {
  const all = cover(
    [
      snapshot("a", "2013-01-01T00:00", "2013-01-02T00:00"),
      snapshot("b", "2013-01-01T06:00", "2013-01-01T12:00"),
      snapshot("c", "2013-01-01T12:00", "2013-01-01T18:00"),
    ],
    [],
  );
  const [cell] = cells(all, days("2013-01-01T00:00", 1), { start: 0, end: Infinity });
  const laid = lanes(cell, 10);
  assert.equal(laid.count, 2);
  assert.deepEqual(
    laid.bars.map((bar) => bar.lane),
    [0, 1, 1],
  );
  assert.equal(lanes(cell, 2), null);
});

test("spans that were asked for in halves are one coverage again", () => {
  const ranges = (...lengths) => lengths.map((length) => ({ start_offset: 10, end_offset: 10 + length }));
  const half = (windows, start, end, stored, complete) => ({
    windows,
    gaps: [{ window_start: `${start}Z`, window_end: `${end}Z` }],
    complete,
    partitions: [{ stored: ranges(stored), missing: ranges(5, 6), lost: ranges(1) }],
  });
  const across = snapshot("a", "2013-01-01T00:00", "2013-01-03T00:00", { uncertain_partitions: 1 });
  const whole = combine(
    "t",
    [
      half([across], "2013-01-01T12:00", "2013-01-02T00:00", 3, true),
      half([across], "2013-01-02T00:00", "2013-01-02T06:00", 4, false),
    ],
    { from: 0, to: 1 },
  );
  assert.equal(whole.windows.length, 1);
  assert.deepEqual(whole.gaps, [{ start: at("2013-01-01T12:00"), end: at("2013-01-02T06:00") }]);
  assert.deepEqual([whole.stored, whole.unread, whole.lost], [7, 22, 2]);
  assert.deepEqual([whole.complete, whole.uncertain], [false, true], "one half is not, and one window is");
  assert.equal(cover([snapshot("a", "2013-01-01T00:00", "2013-01-02T00:00")], []).uncertain, false);
});

test("a span of many windows is asked for in parts, where the windows are", () => {
  const [from, to] = [at("2013-01-01T00:00"), at("2014-01-01T00:00")];
  const facts = (snapshots, start, end) => ({ snapshots, oldest_window_start: start, newest_window_end: end });
  const whole = [[from, to]];
  assert.deepEqual(parts(from, to, undefined), whole);
  assert.deepEqual(parts(from, to, facts(0, null, null)), whole);
  assert.deepEqual(parts(from, to, facts(12_000, "2013-02-01T00:00:00Z", "2013-03-01T00:00:00Z")), whole);
  assert.deepEqual(parts(from, to, facts(90_000, "2012-01-01T00:00:00Z", "2012-03-01T00:00:00Z")), whole);
  const found = parts(from, to, facts(24_000, "2013-02-01T00:00:00Z", "2013-03-03T00:00:00Z"));
  assert.deepEqual(found, [
    [from, at("2013-02-16T00:00")],
    [at("2013-02-16T00:00"), to],
  ]);
});

test("urgency follows what is left of the retention", () => {
  const topic = { retention_ms: 30 * time.DAY };
  for (const [left, level] of [
    [-1, "now"],
    [2 * time.DAY, "soon"],
    [4 * time.DAY, "later"],
  ]) {
    assert.equal(urgency(topic, { expires: 1000 + left }, 1000), level);
  }
  assert.equal(urgency({ retention_ms: null }, { expires: null }, 0), "safe");
  assert.equal(urgency({ retention_ms: 2 * time.HOUR }, { expires: 1.5 * time.HOUR }, 0), "later");
});

test("the most urgent topic comes first, then what expires first, then by name", () => {
  const row = (name, days, retention = 30) => ({
    topic: { topic: name, retention_ms: retention * time.DAY },
    risk: days === null ? null : { expires: days * time.DAY },
  });
  const sorted = [
    row("gone", -2),
    row("going", -1),
    row("brief", 0.5, 2),
    row("soon", 2),
    row("later", 8),
    row("much later", 20),
    { topic: { topic: "kept", retention_ms: null }, risk: { expires: null } },
    row("unknown", null),
  ];
  for (let turn = 0; turn < sorted.length; turn += 1) {
    const turned = [...sorted.slice(turn), ...sorted.slice(0, turn)].reverse();
    assert.deepEqual(turned.sort(byRisk(0)), sorted);
  }
});

test("sizes and numbers are short", () => {
  assert.deepEqual([0, 999, 1500, 26_204, 5e9].map(words.bytes), ["0 B", "999 B", "1.5 kB", "26 kB", "5.0 GB"]);
  assert.equal(words.count(1, "file"), "1 file");
  assert.equal(words.count(27_004, "event"), "27,004 events");
  assert.equal(words.percent(0.999), "99 %");
});

test("a snapshot has one word, and a loss outweighs how final it is", () => {
  const sealed = { state: "succeeded", completeness: "sealed" };
  for (const [one, word] of [
    [{ ...sealed, result: { lost_offsets: 0, uncertain_partitions: 0 } }, "sealed"],
    [{ ...sealed, result: { lost_offsets: 1, uncertain_partitions: 1 } }, "lost"],
    [{ ...sealed, result: { lost_offsets: 0, uncertain_partitions: 1 } }, "uncertain"],
    [{ ...sealed, lost_offsets: 2, uncertain_partitions: 0 }, "lost"],
    [{ ...sealed, lost_offsets: 0, uncertain_partitions: 2 }, "uncertain"],
    [{ ...sealed, completeness: "settled", lost_offsets: 0, uncertain_partitions: 0 }, "settled"],
    [{ state: "failed", completeness: "sealed", result: { lost_offsets: 1 } }, "failed"],
    [{ state: "queued", completeness: null, result: null }, "queued"],
  ])
    assert.equal(words.statusOf(one), word);
});

test("what a snapshot lacks, what is odd about it, and what to do are sentences", () => {
  const nothing = { lost_offsets: 0, uncertain_partitions: 0, out_of_window_records: 0, poison_records: 0 };
  assert.deepEqual([words.losses(null), words.losses(nothing), words.oddities(nothing)], [[], [], []]);
  assert.match(words.losses({ ...nothing, lost_offsets: 1 })[0], /^1 offset .* before it could be stored/);
  assert.match(words.losses({ ...nothing, uncertain_partitions: 2 })[0], /^In 2 partitions nobody looked/);
  assert.match(
    words.oddities({ ...nothing, out_of_window_records: 1 })[0],
    /^1 stored event carries a timestamp outside/,
  );
  assert.match(words.oddities({ ...nothing, poison_records: 3 })[0], /^3 events stamped far in the future/);
  assert.match(words.errorAdvice({ retryable: true }), /sent again, goes on/);
  assert.match(words.errorAdvice({ retryable: false }), /would fail again/);
});

test("a line for the terminal says the same to a shell, whatever it holds", () => {
  const said = (...call) =>
    execFileSync("bash", ["-c", `curl() { printf '%s\\n' "$@"; }; ${curl(...call)}`], { encoding: "utf8" })
      .trimEnd()
      .split("\n");
  const url = "http://127.0.0.1:8080/v1/snapshots?label=it's&state=failed&topic=$HOME";
  assert.deepEqual(said("GET", url.slice(21)), ["--fail-with-body", url]);
  assert.deepEqual(said("POST", url.slice(21)), ["--fail-with-body", "-X", "POST", url]);
  const body = { topic: "it's `here` $(date)" };
  assert.deepEqual(said("POST", "/v1/snapshots", body), [
    "--fail-with-body",
    "http://127.0.0.1:8080/v1/snapshots",
    "-H",
    "content-type: application/json",
    "-d",
    JSON.stringify(body),
  ]);
});

test("every failure of a run has words of its own", async () => {
  const { readFileSync } = await import("node:fs");
  const kinds = [
    ...readFileSync(`${process.env.PAGE_ROOT}/src/snapshot/failure.rs`, "utf8").matchAll(/ = "([A-Z_]+)", retryable/g),
  ].map((match) => match[1]);
  assert.ok(kinds.length >= 8, `${kinds}`);
  for (const code of kinds) assert.notEqual(words.errorWords({ code }), "The run ended with an error.", code);
});
