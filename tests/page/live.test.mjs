// What changes while somebody looks: runs, and the service itself.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Strandline, checkAccess, loadFlights, sql, stopAll, until, withPage } from "./harness.mjs";

let strandline;
const at = (day) => Date.UTC(2013, 0, day);
const ask = (day) => strandline.take("flights", at(day), at(day + 1), { wait: 0 });
/** Small files, so that two weeks are many of them and there is a middle to stop in. */
const SLOW = { TARGET_FILE_BYTES: "16384" };
const asksFor = (page, path) => page.requests.filter((one) => new URL(one.url()).pathname === path).length;
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
    // What it showed before the worker froze may be less.
    await until("some of it is done, in a bar and in words", async () => {
      const [done, words] = await bar.evaluate((one) => [one.ariaValueNow, one.nextElementSibling.innerText]);
      return done > 0 && done < 100 && new RegExp(`^${done} % of [\\d,]+ offsets · [\\d,]+ events`).test(words);
    });
    assert.equal(
      await page.evaluate(() => document.getAnimations().length),
      0,
      "nothing moves for who wants no motion",
    );
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
      const listed = (request) => new URL(request.url()).pathname === "/v1/snapshots";
      const calendars = (request) => request.url().includes("/coverage?");
      const after = list.requests.slice(list.requests.findIndex(calendars));
      assert.equal(after.filter(listed).length, 0, "what is no longer shown is no longer asked for");
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
    await page.locator(".verdict .status.is-queued").waitFor();
    await withPage(strandline, async (list) => {
      await list.show("/snapshots?topic=flights");
      const row = list.locator("tbody tr", { has: list.locator(`a[href$="${one.id}"]`) });
      await row.locator(".status.is-queued").waitFor();
      await page.getByRole("button", { name: "Cancel the run" }).click();
      await row.locator(".status.is-cancelled").waitFor();
    });
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
      // Timers that were set before are not the clock's.
      await page.clock.install();
      await page.show("/snapshots");
      const rows = page.locator("tbody tr");
      await rows.first().waitFor();
      const shown = await rows.allInnerTexts();
      await strandline.stop();
      await page.getByText("Strandline does not answer").waitFor();
      assert.deepEqual(await rows.allInnerTexts(), shown, "what was there is there");
      await checkAccess(page, "away");
      const before = page.requests.length;
      for (let second = 0; second < 60; second += 1) await page.clock.runFor(1000);
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
      await until("it asks again by itself", () => asksFor(page, "/v1/topics") > 1);
      await page.show("/snapshots");
      await page.locator("tbody tr").first().waitFor();
      // A worker that can't reach Kafka tries the run again, and says why.
      const worker = await Strandline.start("live", { WORKERS: "1", KAFKA_BROKERS: "127.0.0.1:1" });
      const { id } = await ask(26);
      await page.show(`/snapshots/${id}`);
      await page.getByText("It is being tried again.").waitFor();
      const { last_error: error } = await strandline.call("GET", `/v1/snapshots/${id}`);
      await page.getByText(error.message).waitFor();
      await worker.stop();
    },
    AWAY,
  );
  await lonely.stop();
});

test("without its database it says what is wrong, and nothing when that is over", async () => {
  await strandline.take("flights", at(28), at(29), { wait: 0 });
  const allow = (allowed) => sql("postgres", `ALTER DATABASE ${strandline.database} ALLOW_CONNECTIONS ${allowed}`);
  await withPage(
    strandline,
    async (page) => {
      await page.show("/snapshots");
      await page.locator("tbody tr").first().waitFor();
      allow(false);
      sql(
        "postgres",
        `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '${strandline.database}'`,
      );
      try {
        const said = page.getByText("Strandline does not answer").locator("..");
        await said.waitFor();
        await until("it says why", async () => /database/.test(await said.innerText()));
        await page.locator("tbody tr").first().waitFor();
      } finally {
        allow(true);
      }
      await page.getByText("Strandline does not answer").waitFor({ state: "detached" });
    },
    AWAY,
  );
});

test("an error stands beside what is there, and goes when the next answer comes", async () => {
  const narrow = await Strandline.start("live", { WORKERS: "0", RATE_LIMIT: "3" });
  await withPage(
    narrow,
    async (page) => {
      await page.show("/snapshots");
      const rows = page.locator("tbody tr");
      await rows.first().waitFor();
      const count = await rows.count();
      let busy = true;
      const flood = (async () => {
        while (busy) await fetch(`${narrow.url}/v1/snapshots`).then((response) => response.text());
      })();
      try {
        await page.getByRole("alert").filter({ hasText: "RATE_LIMITED" }).waitFor();
        assert.equal(await rows.count(), count, "what was there is there");
      } finally {
        busy = false;
        await flood;
      }
      await page.getByRole("alert").waitFor({ state: "detached" });
    },
    { expect: [/429 \(Too Many/] },
  );
  await narrow.stop();
});
