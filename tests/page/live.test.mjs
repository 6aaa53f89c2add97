// What changes while somebody looks: runs, and the service itself.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Strandline, checkAccess, loadFlights, stopAll, until, withPage } from "./harness.mjs";

let strandline;
const at = (day) => Date.UTC(2013, 0, day);
const ask = (day) => strandline.take("flights", at(day), at(day + 1), { wait: 0 });
/** Small files, so that two weeks are many of them and there is a middle to stop in. */
const SLOW = { TARGET_FILE_BYTES: "16384" };
const AWAY = { expect: [/ERR_CONNECTION|ERR_EMPTY_RESPONSE|ERR_NETWORK|503 \(Service/] };

before(async () => {
  loadFlights();
  strandline = await Strandline.start("live", { WORKERS: "0" });
});
after(stopAll);

test("a run is watched from the queue to the end", async () => {
  const one = await strandline.take("flights", at(10), at(24), { wait: 0 });
  await withPage(strandline, async (page) => {
    await page.show(`/snapshots/${one.id}`);
    await page.locator(".verdict .status.is-queued").waitFor();
    await page.getByText("Not begun.").waitFor();
    // Stops as by kill -STOP when the third file is stored.
    const worker = await Strandline.start("live", { ...SLOW, WORKERS: "1", FAULT: "after_commit@3=freeze" });
    await until("the worker has frozen", () => worker.frozen());
    await page.locator(".verdict .status.is-running").waitFor();
    const bar = page.getByRole("progressbar", { name: "Progress of the run" });
    await until("some of it is done", async () => Number(await bar.getAttribute("aria-valuenow")) > 0);
    assert.ok(Number(await bar.getAttribute("aria-valuenow")) < 100);
    await page.locator("tbody tr").nth(3).waitFor();
    await checkAccess(page, "a run");
    await withPage(strandline, async (list) => {
      await list.show("/snapshots?state=running");
      await list.locator("tbody tr .status.is-running").first().waitFor();
      await list.show("/coverage/flights?year=2013");
      await list.getByRole("link", { name: /^12 January 2013: running/ }).waitFor();
      await checkAccess(list, "a calendar with a run");
      worker.thaw();
      await list.getByRole("link", { name: /^12 January 2013: sealed; 1 snapshot/ }).waitFor();
    });
    await page.locator(".verdict .status.is-sealed").waitFor();
    await until(
      "it is said",
      async () => (await page.locator("[aria-live=polite].only-read").innerText()) === "The snapshot is sealed now",
    );
    await page
      .getByText(/^\d+ files?$|in \d+ files/)
      .first()
      .waitFor();
    const unchanged = page.requests.filter(
      (request) => request.url().endsWith(one.id) && request.headers()["if-none-match"],
    );
    assert.ok(unchanged.length > 0, "it asks whether anything has changed");
    await worker.stop();
  });
});

test("a run is cancelled and taken up again from the page", async () => {
  const one = await ask(3);
  await withPage(strandline, async (page) => {
    await page.show(`/snapshots/${one.id}`);
    await page.getByRole("button", { name: "Cancel the run" }).click();
    await page.locator(".verdict .status.is-cancelled").waitFor();
    await page.getByRole("button", { name: "Look for more events" }).click();
    await page.locator(".verdict .status.is-queued").waitFor();
    const worker = await Strandline.start("live", { WORKERS: "1" });
    await page.locator(".verdict .status.is-sealed").waitFor();
    await worker.stop();
  });
});

test("when nobody answers it says so, keeps what is there, and comes back by itself", async () => {
  const worker = await Strandline.start("live", { WORKERS: "1" });
  const one = await strandline.take("flights", at(4), at(5));
  await worker.stop();
  await withPage(
    strandline,
    async (page) => {
      await page.show("/snapshots");
      const rows = page.locator("tbody tr");
      await rows.first().waitFor();
      const shown = await rows.allInnerTexts();
      await strandline.stop();
      await page.getByText("Strandline does not answer").waitFor();
      assert.deepEqual(await rows.allInnerTexts(), shown, "what was there is there");
      await checkAccess(page, "away");
      const before = page.requests.length;
      await page.clock.install();
      await page.clock.runFor(60_000);
      assert.ok(page.requests.length - before < 20, `${page.requests.length - before} requests in a minute`);
      // A view that has not been loaded waits as well.
      await page.show(`/snapshots/${one.id}`);
      await page.locator(".waiting").first().waitFor();
      await strandline.begin();
      await page.clock.runFor(30_000);
      await page.getByText("Strandline does not answer").waitFor({ state: "detached" });
      await page.locator(".verdict .status.is-sealed").waitFor();
    },
    AWAY,
  );
});

test("what can't be asked of Kafka is said where it was asked for, and the rest goes on", async () => {
  const lonely = await Strandline.start("live", { WORKERS: "0", KAFKA_BROKERS: "127.0.0.1:1" });
  await withPage(
    lonely,
    async (page) => {
      await page.show("/topics");
      await page.getByRole("alert").filter({ hasText: "Kafka is unavailable" }).waitFor();
      assert.match(await page.locator(".note").innerText(), /request [0-9a-f-]{36}, KAFKA_UNAVAILABLE/);
      assert.equal(await page.locator(".connection p").count(), 0, "Strandline itself answers");
      await checkAccess(page, "a problem");
      await page.show("/snapshots");
      await page.locator("tbody tr").first().waitFor();
    },
    AWAY,
  );
  await lonely.stop();
});
