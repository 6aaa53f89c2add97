// 100,000 snapshots: half of them windows of five minutes of one topic.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Strandline, loadFlights, measure, sql, stopAll, until, withPage } from "./harness.mjs";

let strandline;

before(async () => {
  loadFlights();
  const worker = await Strandline.start("many");
  await worker.take("flights", Date.parse("2013-01-05T00:00:00Z"), Date.parse("2013-01-06T00:00:00Z"));
  await worker.stop();
  // Copies of the real one, as the service would have made them.
  sql(
    "many",
    `
    BEGIN;
    SET LOCAL session_replication_role = replica;
    CREATE TEMP TABLE made AS
      SELECT n, s.topic, s.cluster, s.result, s.on_loss,
        (lpad(to_hex((extract(epoch FROM t.asked_at) * 1000)::bigint), 12, '0') || '7' || substr(md5('s' || n), 1, 3)
          || 'a' || substr(md5('s' || n), 4, 15))::uuid AS id,
        CASE WHEN n % 2 = 0 THEN 'flights' ELSE 'orders-' || (n % 500) END AS topic_name,
        timestamptz '2013-02-02 00:00Z' + n / 2 * interval '5 min' AS window_start, t.asked_at,
        CASE WHEN n % 1000 = 999 THEN 'failed' ELSE 'succeeded' END AS outcome
      FROM generate_series(1, 100000) AS n, snapshots s,
        LATERAL (SELECT now() - interval '2 days' + n * interval '1 s' AS asked_at) t;
    INSERT INTO snapshots (id, cluster, topic_name, topic, window_start, window_end, capture, on_loss, labels, run,
        completeness, result, created_at, updated_at)
      SELECT id, cluster, topic_name, CASE topic_name WHEN 'flights' THEN topic END, window_start, window_start + interval '5 min', 'events', on_loss,
        '{}', 1, CASE outcome WHEN 'succeeded' THEN 'sealed' END, CASE outcome WHEN 'succeeded' THEN result END, asked_at, asked_at
      FROM made;
    INSERT INTO runs (snapshot_id, run, origin, outcome, error, offsets_total, records_added, requested_at, started_at,
        finished_at, offsets_done, records, bytes, shown)
      SELECT id, 1, 'request', outcome,
        CASE outcome WHEN 'failed' THEN '{"code": "KAFKA_UNAVAILABLE", "message": "no broker could be reached", "partition": null}'::jsonb END,
        10, 10, asked_at, asked_at, asked_at, 10, 10, 1000, true
      FROM made;
    COMMIT;
    ANALYZE;`,
  );
  assert.equal(sql("many", "SELECT count(*) FROM snapshots"), "100001");
  strandline = await Strandline.start("many", { WORKERS: "0" });
});
after(stopAll);

/** Asks of the API since then. */
const asked = (page, from) => page.requests.slice(from).filter((request) => request.url().includes("/v1/"));

test("the list asks for a page at a time, however deep it goes", async () => {
  await withPage(strandline, async (page) => {
    await page.show("/snapshots");
    const rows = page.locator("tbody tr");
    await rows.first().waitFor();
    assert.ok(asked(page, 0).length <= 3, `${asked(page, 0).map((one) => one.url())}`);
    for (let depth = 0; depth < 5; depth += 1) {
      const [top, before] = [await rows.first().innerText(), page.requests.length];
      await page.getByRole("link", { name: "Older" }).click();
      await until("the next page", async () => (await rows.count()) === 50 && (await rows.first().innerText()) !== top);
      assert.ok(asked(page, before).length <= 2);
      const { nodes } = await measure(page);
      assert.ok(nodes < 1200, `${nodes} elements`);
    }
    await page.getByRole("checkbox", { name: "failed" }).check();
    const failed = page.locator("tbody .status.is-failed");
    await until("those that failed", async () => (await failed.count()) === 50);
    const top = await rows.first().innerText();
    await page.getByRole("link", { name: "Older" }).click();
    await until("more of them", async () => (await failed.count()) === 50 && (await rows.first().innerText()) !== top);
  });
});

test("a year of windows of five minutes is a calendar like any other", async () => {
  await withPage(strandline, async (page) => {
    await page.show("/coverage/flights?year=2013");
    await page.getByRole("link", { name: /^3 March 2013: sealed; 288 snapshots/ }).waitFor({ timeout: 120_000 });
    assert.equal(await page.locator("a[data-at].is-missing").count(), 0);
    const { nodes } = await measure(page);
    assert.ok(nodes < 3000, `${nodes} elements`);
    // In parts that one answer can tell of, and no more of them than that takes.
    assert.ok(asked(page, 0).length <= 8, `${asked(page, 0).length} requests`);
    await page.getByRole("link", { name: "March 2013, hour by hour" }).click();
    await page.getByRole("grid", { name: "Windows by day" }).waitFor();
    assert.ok((await measure(page)).nodes < 6000, `${(await measure(page)).nodes} elements`);
    assert.equal(
      await page.locator(".timeline .bar").count(),
      31 * 24,
      "by the hour, where windows are too short to be seen",
    );
    await page.getByRole("link", { name: "3 March 2013, Sunday" }).click();
    await page.getByRole("button", { name: "Show more" }).waitFor();
    assert.equal(await page.locator("tbody tr").count(), 100);
    await page.getByRole("button", { name: "Show more" }).click();
    await until("all of the day", async () => (await page.locator("tbody tr").count()) === 288);
  });
});

test("windows that lie close together are asked for in ever smaller spans", async () => {
  // One from long ago, so that the others are closer together than their number lets expect.
  const worker = await Strandline.start("many");
  await worker.take("flights", Date.parse("1990-01-01T00:00:00Z"), Date.parse("1990-01-02T00:00:00Z"));
  await worker.stop();
  await withPage(
    strandline,
    async (page) => {
      await page.show("/coverage/flights?year=2013");
      await page.getByRole("link", { name: /^3 March 2013: sealed; 288 snapshots/ }).waitFor({ timeout: 120_000 });
      assert.equal(await page.locator("a[data-at].is-missing").count(), 0);
      const spans = asked(page, 0).filter((request) => request.url().includes("/coverage?"));
      assert.ok(spans.length > 3 && spans.length < 16, `${spans.length} requests`);
    },
    { expect: [/400 \(Bad Request\)/] },
  );
});
