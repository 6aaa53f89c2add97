// Every view, with a topic that has everything a calendar can show.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";
import { DAY, HOUR, Strandline, checkAccess, focused, measure, stopAll } from "./harness.mjs";
import { until, untilEqual, withPage } from "./harness.mjs";
import { ODD, fill, fillOthers } from "./world.mjs";

let strandline;
let world;
const day = (number) => new Date(world.day(number)).toISOString().slice(0, 10);
const month = (number) => day(number).slice(0, 7);
const inWords = (number) =>
  new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" }).format(
    world.day(number),
  );
/** The calendar of the year that a day is in; the world may lie across two. */
const calendar = (number) => `/coverage/orders?year=${day(number).slice(0, 4)}`;
const cell = (page, number) => page.locator(`a[data-at="${world.day(number)}"]`);
const heading = (page, name) => page.getByRole("heading", { level: 1, name }).waitFor();

async function snapshotOf(number) {
  const query = `topic=orders&window_from=${day(number)}T00:00:00Z&window_to=${day(number)}T12:00:00Z`;
  return (await strandline.call("GET", `/v1/snapshots?${query}`)).items[0];
}

before(async () => {
  strandline = await Strandline.start("world");
  fillOthers();
  world = await fill(strandline);
});
after(stopAll);

/** Everywhere that one can be, but for the sheet that fills a gap. */
const places = async () => ({
  year: calendar(ODD.gap[0]),
  month: `/coverage/orders?month=${month(ODD.hourly)}`,
  day: `/coverage/orders?day=${day(ODD.hourly)}`,
  gap: `${calendar(ODD.gap[0])}&gap=${day(ODD.gap[0])}/${day(ODD.gap[0] + 1)}`,
  snapshots: "/snapshots?topic=orders",
  "no snapshots": "/snapshots?topic=none",
  sealed: `/snapshots/${(await snapshotOf(1)).id}`,
  lost: `/snapshots/${(await snapshotOf(ODD.lost)).id}`,
  failed: `/snapshots/${(await snapshotOf(ODD.failed)).id}`,
  unknown: "/snapshots/00000000-0000-7000-8000-000000000000",
  take: "/take?topic=orders",
  span: `/take?topic=orders&start=${day(1)}T00:00:00.000Z&end=${day(3)}T00:00:00.000Z`,
  topics: "/topics",
  nowhere: "/elsewhere",
});
const NOT_FOUND = [/404 \(Not Found\)/];

/** Shows a place and waits until all of it is there, and nothing of what was there before. */
async function show(page, place) {
  await page.goto("about:blank");
  await page.show(place);
  await page.locator("h1").waitFor();
  await until("nothing is waited for", async () => (await page.locator(".waiting").count()) === 0);
}

for (const scheme of ["light", "dark"]) {
  test(`every view is accessible and fits a screen and a phone, ${scheme}`, async () => {
    await withPage(
      strandline,
      async (page) => {
        for (const [name, place] of Object.entries(await places())) {
          await show(page, place);
          for (const [width, height] of [
            [1280, 860],
            [360, 740],
          ]) {
            await page.setViewportSize({ width, height });
            const { nodes, overflow } = await measure(page);
            assert.ok(overflow <= 0, `${name} is ${overflow} too wide for ${width}`);
            assert.ok(nodes < 3000, `${name} has ${nodes} elements`);
            await checkAccess(page, `${name}, ${scheme}, ${width}`);
          }
          assert.equal(await page.locator("h1").count(), 1, name);
          await until(`${name} has a title`, async () => / · Strandline$/.test(await page.title()));
        }
      },
      { colorScheme: scheme, expect: NOT_FOUND },
    );
  });
}

test("the calendar tells states apart by shape and word, not by colour alone", async () => {
  await withPage(strandline, async (page) => {
    const seen = new Map();
    for (const [number, status] of [
      [1, "sealed"],
      [ODD.lost, "lost"],
      [ODD.failed, "failed"],
      [ODD.gap[0], "missing"],
      [44, "provisional"],
    ]) {
      await show(page, calendar(number));
      const label = await cell(page, number).getAttribute("aria-label");
      const word = { lost: "partial loss" }[status] ?? status;
      assert.ok(label.startsWith(`${inWords(number)}: ${word}`), label);
      const shape = await cell(page, number).locator("svg").innerHTML();
      assert.ok(![...seen.values()].includes(shape), `${status} has a shape of its own`);
      seen.set(status, shape);
    }
    await show(page, calendar(ODD.hourly));
    const hourly = await cell(page, ODD.hourly).getAttribute("aria-label");
    assert.match(hourly, /missing; 87 % of the time held; 21 snapshots/);
    for (const word of ["sealed", "settled", "provisional", "partial loss", "failed", "running", "missing"]) {
      await page.locator(".legend .key", { hasText: word }).first().waitFor();
    }
    await page.locator(".legend summary").click();
    await page.getByText("complete for good: nothing can be added any more").waitFor();
  });
});

test("from the year to the hour to the snapshot, and back again", async () => {
  await withPage(strandline, async (page) => {
    await show(page, calendar(ODD.hourly));
    await cell(page, ODD.hourly).click();
    await page.getByRole("heading", { level: 2, name: inWords(ODD.hourly) }).waitFor();
    await page.getByRole("link", { name: "14:00 – 15:00", exact: true }).click();
    await heading(page, new RegExp(`${inWords(ODD.hourly)}, 14:00 – 15:00`));
    // Title and focus follow when the view has been painted. It is read from its heading on.
    await untilEqual(() => page.title(), `orders, ${inWords(ODD.hourly)}, 14:00 – 15:00 · Strandline`);
    await untilEqual(() => page.evaluate(() => document.activeElement.tagName), "H1");
    await page.goBack();
    await page.getByRole("heading", { level: 2, name: inWords(ODD.hourly) }).waitFor();
    await page
      .getByRole("navigation", { name: "Time" })
      .getByRole("link", { name: new RegExp(`^\\w+ ${day(ODD.hourly).slice(0, 4)}$`) })
      .click();
    const inMonth = inWords(ODD.hourly).replace(/^\d+ /, "");
    await page.getByRole("heading", { level: 2, name: inMonth, exact: true }).waitFor();
    await page.goBack();
    await page.getByRole("heading", { level: 2, name: inWords(ODD.hourly) }).waitFor();
    await page.goBack();
    // A whole day of the same year.
    const whole = [17, 19].find((number) => calendar(number) === calendar(ODD.hourly));
    await cell(page, whole).click();
    await heading(page, new RegExp(inWords(whole)));
    await page.reload();
    await heading(page, new RegExp(inWords(whole)));
  });
});

test("the calendar needs no mouse", async () => {
  await withPage(strandline, async (page) => {
    await show(page, calendar(2));
    const views = page.getByRole("navigation", { name: "Views" });
    assert.equal(await views.getByRole("link", { name: "Coverage" }).getAttribute("aria-current"), "page");
    await page.keyboard.press("Tab");
    assert.equal(await focused(page), "Skip to the content");
    const ring = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.equal(ring, "solid", "one sees where one is");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "main");
    await cell(page, 2).focus();
    const at = async (number) =>
      assert.ok((await focused(page)).startsWith(inWords(number)), `${await focused(page)} is not ${inWords(number)}`);
    await at(2);
    const sameYear = (number) => day(number).slice(0, 4) === day(2).slice(0, 4);
    for (const [key, number] of [
      ["ArrowRight", 3],
      ["ArrowDown", 10],
      ["ArrowLeft", 9],
      ["ArrowUp", 2],
    ]) {
      if (!sameYear(number)) continue;
      await page.keyboard.press(key);
      await at(number);
    }
    const tip = page.locator(".tip");
    assert.equal(await tip.innerText(), await cell(page, 2).getAttribute("data-tip"));
    await page.keyboard.press("Escape");
    await tip.waitFor({ state: "detached" });
    assert.equal(await page.locator(".year a[tabindex='0']").count(), 1, "one stop for the tab key");
    await page.keyboard.press("Enter");
    await heading(page, new RegExp(inWords(2)));
    await show(page, `/coverage/orders?month=${month(ODD.hourly)}`);
    await page.locator(".timeline a[tabindex='0']").focus();
    const first = await focused(page);
    await page.keyboard.press("ArrowDown");
    assert.notEqual(await focused(page), first);
    await page.keyboard.press("ArrowUp");
    assert.equal(await focused(page), first);
  });
});

test("a gap is filled with the keyboard alone: the request, a dry run, the snapshot", async () => {
  const [number] = ODD.gap;
  await withPage(strandline, async (page) => {
    await show(page, calendar(number));
    await cell(page, number).focus();
    await page.keyboard.press("Enter");
    const sheet = page.getByRole("dialog", { name: "Fill a gap of orders" });
    await sheet.waitFor();
    const body = {
      topic: "orders",
      window_start: `${day(number)}T00:00:00.000Z`,
      window_end: `${day(number + 1)}T00:00:00.000Z`,
    };
    assert.ok((await sheet.locator(".command code").innerText()).includes(JSON.stringify(body)));
    const take = sheet.getByRole("button", { name: "Take the snapshot" });
    assert.ok(await take.isDisabled(), "a look comes first");
    await sheet.getByRole("button", { name: "Show what would be read" }).focus();
    await page.keyboard.press("Enter");
    const plan = await sheet.getByText(/offsets would be read/).innerText();
    const wanted = Number(plan.match(/^([\d,]+) offsets/)[1].replaceAll(",", ""));
    assert.ok(wanted > 50, plan);
    assert.equal(
      page.requests.filter((request) => request.method() === "POST").length,
      1,
      "a dry run, and nothing else",
    );
    assert.deepEqual(await snapshotOf(number), undefined, "nothing is made by it");
    await page.keyboard.press("Tab"); // the focus was kept where the keyboard had put it
    assert.equal(await focused(page), "Take the snapshot");
    await page.keyboard.press("Enter");
    await sheet.getByText("Asked for.").waitFor();
    assert.equal(await focused(page), "Take the snapshot");
    await sheet.locator(".facts .status.is-sealed").waitFor();
    const last = page.requests.findLast((request) => request.method() === "POST");
    assert.deepEqual(last.postDataJSON(), body);
    await page.keyboard.press("Escape");
    await sheet.waitFor({ state: "detached" });
    assert.ok((await focused(page)).startsWith(inWords(number)), "the reader is where it was opened");
    await until("the calendar shows it", async () =>
      (await cell(page, number).getAttribute("aria-label")).includes("sealed"),
    );
    assert.equal((await snapshotOf(number)).result.records, wanted);
  });
});

test("a gap is filled whole, an hour each", async () => {
  await withPage(strandline, async (page) => {
    await page.show(`/coverage/orders?day=${day(ODD.hourly)}`);
    await page.getByRole("link", { name: "Fill 09:00 – 12:00" }).click();
    await page.getByRole("radio", { name: "one an hour" }).check();
    assert.equal((await page.locator(".command code").innerText()).split("curl --fail").length - 1, 3);
    await page.getByRole("button", { name: "Show what would be read" }).click();
    await page
      .getByText(/would be read/)
      .first()
      .waitFor();
    await page.getByRole("button", { name: "Take 3 snapshots" }).click();
    await page.getByText("3 snapshots asked for.").waitFor();
    await page.getByRole("button", { name: "Close" }).click();
    await page.getByText("Complete.").waitFor();
    await page.goBack();
    await page.getByRole("heading", { level: 2, name: inWords(ODD.hourly) }).waitFor();
  });
});

test("a loss and a failure are told in plain words, with what the API says", async () => {
  const lost = await snapshotOf(ODD.lost);
  const failed = await snapshotOf(ODD.failed);
  await withPage(strandline, async (page) => {
    await show(page, `/snapshots/${lost.id}`);
    await page.getByText(`${lost.result.lost_offsets} offsets of the window had been removed from Kafka`).waitFor();
    const { items } = await strandline.call("GET", `/v1/snapshots/${lost.id}/partitions`);
    for (const partition of items) {
      const row = page.locator("tbody tr").nth(partition.partition);
      const text = await row.innerText();
      assert.ok(text.includes(`${partition.stored_offsets} of ${partition.end_offset - partition.start_offset}`), text);
      assert.ok(text.includes(String(partition.lost_offsets)), text);
    }
    await show(page, `/snapshots/${failed.id}`);
    await page.getByText("Events of the window are lost, and this snapshot was asked to fail then.").waitFor();
    await page.getByText(failed.error.message).waitFor();
  });
});

test("a snapshot shows its files, its events, and a curl line that does the same", async () => {
  const one = await snapshotOf(1);
  await withPage(strandline, async (page) => {
    await show(page, `/snapshots/${one.id}`);
    const { items } = await strandline.call("GET", `/v1/snapshots/${one.id}/files`);
    await page.getByText(items[0].url).waitFor();
    await page.getByLabel("Partition", { exact: true }).fill("2");
    await page.getByRole("button", { name: "Show the first 20" }).click();
    const events = page.locator(".events li");
    await events.first().waitFor();
    assert.equal(await events.count(), 20);
    assert.match(await events.first().innerText(), /partition 2, offset .*customer-\d+[^]*"item"/);
    const line = await page.getByRole("group", { name: "This snapshot with curl" }).innerText();
    const answer = JSON.parse(execFileSync("bash", ["-c", `${line} --silent`], { encoding: "utf8" }));
    assert.equal(answer.id, one.id);
    const again = await page.getByRole("group", { name: "Asking for it again" }).innerText();
    assert.equal(JSON.parse(execFileSync("bash", ["-c", `${again} --silent`], { encoding: "utf8" })).id, one.id);
  });
});

test("a snapshot is taken: of the last hour, of yesterday, of a span, with local times beside", async () => {
  await withPage(strandline, async (page) => {
    await page.show("/take?topic=orders");
    await page.getByText("The last full hour").waitFor();
    const command = page.locator(".command code");
    const bodyOf = async () => JSON.parse((await command.innerText()).match(/-d '(.*)'/)[1]);
    const hour = await bodyOf();
    assert.equal(Date.parse(hour.window_end) - Date.parse(hour.window_start), HOUR);
    const ago = Date.now() - Date.parse(hour.window_end);
    assert.ok(ago >= 0 && ago < HOUR + 60_000, `${ago} ms ago`);
    await page.getByRole("radio", { name: /^Yesterday/ }).check();
    const midnight = Math.floor(Date.now() / DAY) * DAY;
    const asked = async () => {
      const { topic, window_start: from, window_end: to } = await bodyOf();
      return [topic, from, to];
    };
    await untilEqual(asked, ["orders", new Date(midnight - DAY).toISOString(), new Date(midnight).toISOString()]);
    await page.getByRole("radio", { name: /^A span/ }).check();
    await page.getByLabel("Up to, not including").fill("2013-01-10T06:00");
    await page.getByText("The span has to end after it begins.").waitFor();
    await page.getByLabel(/^From/).fill("2013-01-10T00:00");
    await untilEqual(asked, ["orders", "2013-01-10T00:00:00.000Z", "2013-01-10T06:00:00.000Z"]);
    await page.getByRole("combobox", { name: "Topic" }).selectOption("flights");
    await untilEqual(asked, ["flights", "2013-01-10T00:00:00.000Z", "2013-01-10T06:00:00.000Z"]);
    await page.getByText("10 January 2013, 00:00 – 06:00").waitFor();
    await page.getByText(/On this computer's clock: .*01:00/).waitFor();
    await page.reload();
    await page.getByText("10 January 2013, 00:00 – 06:00").waitFor();
    await page.getByRole("button", { name: "Show what would be read" }).click();
    await page.getByText(/The snapshot would be/).waitFor();
    await page.getByRole("button", { name: "Take the snapshot" }).click();
    await heading(page, /10 January 2013, 00:00 – 06:00/);
    await page.locator(".verdict .status.is-sealed").waitFor();
  });
});

test("a span that is none, and one that is too many, are not asked for", async () => {
  await withPage(strandline, async (page) => {
    await page.show("/take?topic=orders&start=2013-01-02T00:00:00Z&end=2013-01-01T00:00:00Z");
    await page.getByText("The span has to end after it begins.").waitFor();
    await page.show("/take?topic=orders&start=2013-01-01T00:00:00Z&end=2014-01-01T00:00:00Z");
    await page.getByRole("radio", { name: "one an hour" }).check();
    await page.getByText("That would be 8,760 snapshots.").waitFor();
    assert.ok(await page.getByRole("button", { name: "Show what would be read" }).isDisabled());
  });
});

test("topics whose events will be gone come first, and say when", async () => {
  await withPage(strandline, async (page) => {
    await show(page, "/topics");
    const names = (await page.locator("tbody th").allInnerTexts()).slice(0, 4);
    assert.deepEqual(names, ["sensors", "invoices", "flights", "orders"]);
    await page.getByText("1 topic at risk:").waitFor();
    const rows = page.locator("tbody tr");
    assert.match(
      await rows.nth(0).innerText(),
      /564 offsets[^]*(expires from .* in .*(minute|second)s?|may be removed at any moment)[^]*2 days/,
    );
    assert.match(await rows.nth(1).innerText(), /48 offsets[^]*safe until .* for 27 days[^]*30 days/);
    const { snapshots } = (await strandline.call("GET", "/v1/topics")).items.find((one) => one.topic === "orders");
    const now = new Date().toISOString();
    const { partitions } = await strandline.call("GET", `/v1/topics/orders/offsets?at=${now}`);
    const kept = partitions.reduce((sum, one) => sum + one.high_watermark - one.low_watermark, 0);
    const said = `nothing expires[^]*${snapshots} snapshots[^]*for good[^]*stamped by producers[^]*`;
    assert.match(await rows.nth(3).innerText(), new RegExp(`${said}${kept.toLocaleString("en")} offsets`));
    await rows.nth(3).getByText("4 partitions").click();
    const marks = await page.getByRole("list", { name: "Watermarks of orders" }).locator("li").allInnerTexts();
    const number = (value) => value.toLocaleString("en");
    assert.deepEqual(
      marks,
      partitions.map((one) => `${one.partition}: ${number(one.low_watermark)} – ${number(one.high_watermark)}`),
    );
    await page.getByRole("link", { name: "Take a snapshot of sensors" }).click();
    await page.getByRole("radio", { name: /^A span/, checked: true }).waitFor();
    await page.getByRole("button", { name: "Show what would be read" }).click();
    await page.getByText("564 offsets would be read.").waitFor();
    // What is stored stays; the page tells of Kafka's own copy.
    const hour = Math.floor(Date.now() / HOUR) * HOUR;
    await strandline.take("invoices", hour - 24 * HOUR, hour - 23 * HOUR);
    await strandline.take("sensors", hour - 60 * HOUR, hour - 59 * HOUR);
    await show(page, "/topics");
    const row = (topic) => page.getByRole("row").filter({ has: page.getByRole("rowheader", { name: topic }) });
    await row("invoices")
      .getByText(/Kafka's copy of the oldest stays until/)
      .waitFor();
    await row("sensors").getByText("Kafka's copy of the oldest may be gone").waitFor();
  });
});

test("the list is filtered, paged and kept up to date, and its address says so", async () => {
  await withPage(strandline, async (page) => {
    await show(page, "/snapshots");
    const rows = page.locator("tbody tr");
    assert.equal(await rows.count(), 50);
    const top = await rows.first().innerText();
    await page.getByRole("link", { name: "Older" }).click();
    await page.getByRole("link", { name: "Newest" }).waitFor();
    assert.notEqual(await rows.first().innerText(), top);
    await page.goBack();
    await until("the newest again", async () => (await rows.first().innerText()) === top);
    await page.getByRole("checkbox", { name: "failed" }).check();
    await until("one is left", async () => (await rows.count()) === 1);
    assert.match(page.url(), /state=failed/);
    await page.reload();
    await until("still", async () => (await rows.count()) === 1);
    await page.getByRole("link", { name: "Show all" }).click();
    await until("all again", async () => (await rows.count()) === 50);
    await page.getByLabel("Topic", { exact: true }).fill("flights");
    await page.getByLabel("Windows from, UTC").fill("last week");
    await page.keyboard.press("Enter");
    await page.getByText("Write a time as").waitFor();
    await page.getByLabel("Windows from, UTC").fill("2013-01-20");
    await page.keyboard.press("Enter");
    await page.getByText("No snapshot is like that.").waitFor();
    await strandline.take("flights", Date.parse("2013-01-20T00:00:00Z"), Date.parse("2013-01-21T00:00:00Z"), {
      labels: { team: "night: watch" },
    });
    await until("it is there by itself", async () => (await rows.count()) === 1);
    await rows.first().getByRole("link").click();
    await page.getByRole("link", { name: "team: night: watch" }).click();
    await until("those with the label", async () => (await rows.count()) === 1);
  });
});

test("a page that nobody sees asks for nothing", async () => {
  await withPage(strandline, async (page) => {
    // Timers that were set before are not the clock's.
    await page.clock.install();
    await show(page, "/snapshots?state=queued");
    const seen = (hidden) =>
      page.evaluate((value) => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => value });
        document.dispatchEvent(new Event("visibilitychange"));
      }, hidden);
    await seen(true);
    const before = page.requests.length;
    await page.clock.runFor(120_000);
    assert.equal(page.requests.length, before);
    await seen(false);
    await until("it asks again", () => page.requests.length > before);
  });
});
