// A topic with everything that a calendar can show, made by real means: six weeks of orders, stored
// by the day and then by the hour, with gaps, events lost to retention, a failure, and a day whose
// end has not come.

import assert from "node:assert/strict";
import { DAY, HOUR, deleteRecords, load, loadFlights } from "./harness.mjs";

const DAYS = 44;
/** Days from the first, by what becomes of them. */
export const ODD = { lost: 5, failed: 8, gap: [13, 14], hourly: 18, skipped: 23 };
const HOURLY_FROM = 38;

/** Where the world's time begins: the midnight so many days before today. */
export const begin = () => Math.floor(Date.now() / DAY) * DAY - DAYS * DAY;

/** The same orders each time: busier by day than by night. */
function* orders(start, end) {
  let seed = 7;
  const random = () => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647;
  for (let at = start; at < end;) {
    const hour = new Date(at).getUTCHours();
    const busy = hour > 6 && hour < 22 ? 1 : 0.3;
    at += Math.round((random() * 2 * 6 * 60_000) / busy);
    const item = ["kettle", "lamp", "rope", "anchor", "buoy"][Math.floor(random() * 5)];
    if (at < end)
      yield [
        at,
        `customer-${Math.floor(random() * 400)}`,
        { item, count: 1 + Math.floor(random() * 4), price: Math.round(random() * 20_000) / 100 },
      ];
  }
}

async function each(items, atOnce, work) {
  const queue = [...items];
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (queue.length > 0) await work(queue.shift());
    }),
  );
}

const range = (from, to) => Array.from({ length: to - from }, (_, index) => from + index);

/** Fills the topic `orders`, and takes its snapshots. Needs a Strandline that works. */
export async function fill(strandline) {
  const start = begin();
  const now = Date.now();
  load("orders", 4, [...orders(start, now)]);
  const day = (number, options) => strandline.take("orders", start + number * DAY, start + (number + 1) * DAY, options);
  const hour = (at) => strandline.take("orders", at, at + HOUR);
  const loseUntil = async (at) => {
    const { partitions } = await strandline.call("GET", `/v1/topics/orders/offsets?at=${new Date(at).toISOString()}`);
    deleteRecords(
      "orders",
      partitions.map((partition) => partition.offset),
    );
  };
  await each(range(0, ODD.lost), 4, day);
  await loseUntil(start + ODD.lost * DAY + 9 * HOUR);
  assert.ok((await day(ODD.lost)).result.lost_offsets > 0, "something is lost");
  await each(range(ODD.lost + 1, ODD.failed), 4, day);
  await loseUntil(start + ODD.failed * DAY + 14 * HOUR);
  assert.equal((await day(ODD.failed, { on_loss: "fail" })).state, "failed");
  const usual = range(ODD.failed + 1, HOURLY_FROM).filter(
    (number) => !ODD.gap.includes(number) && number !== ODD.hourly && number !== ODD.skipped,
  );
  await each(usual, 6, day);
  const hours = [
    ...range(0, 24)
      .filter((number) => number < 9 || number > 11)
      .map((number) => start + ODD.hourly * DAY + number * HOUR),
    ...range(0, Math.floor((now - start) / HOUR) - HOURLY_FROM * 24).map(
      (number) => start + HOURLY_FROM * DAY + number * HOUR,
    ),
  ];
  await each(hours, 6, hour);
  // One that goes on while the tests run, across the turn of the hour as well.
  const begun = Math.floor(now / HOUR) * HOUR;
  await strandline.take("orders", begun, begun + 2 * HOUR);
  return { start, day: (number) => start + number * DAY };
}

/** Topics whose unstored events expire: soon, later, never. */
export function fillOthers() {
  const now = Date.now();
  const steady = (from, to, every) =>
    Array.from({ length: Math.floor((to - from) / every) }, (_, number) => [
      from + number * every,
      null,
      { reading: number },
    ]);
  load("sensors", 3, steady(now - 47 * HOUR, now, 5 * 60_000), 2 * DAY);
  load("invoices", 1, steady(now - 2 * DAY, now, HOUR), 30 * DAY);
  loadFlights();
}
