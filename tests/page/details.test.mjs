// What the views say, word by word, against what the API says: lists, partitions, plans, options.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";
import { DAY, HOUR, Strandline, checkAccess, deleteRecords, load, loadFlights } from "./harness.mjs";
import { focused, measure, stopAll, until, untilEqual, withPage } from "./harness.mjs";

// Of the page itself; what it says is looked at in pure.test.mjs.
const { windowWords } = await import(`${process.env.PAGE_ROOT}/page/time.js`);
let strandline;
const taken = {};
const start = Date.UTC(2013, 2, 1);
const day = (number) => new Date(start + number * DAY).toISOString().slice(0, 10);
const span = (from, to) => `start=${day(from)}T00:00:00Z&end=${day(to)}T00:00:00Z`;
const number = (value) => value.toLocaleString("en");
const NOTE = { note: "<b>it's</b> $HOME" };

/** Four days of parcels, one every half an hour; on the third day some of the first arrive. */
function* parcels() {
  for (let at = start; at < start + 4 * DAY; at += HOUR / 2) {
    yield [at, `box-${at % 7}`, NOTE];
    if (at >= start + 2 * DAY && at < start + 2 * DAY + 3 * HOUR) yield [at - 2 * DAY, "late", NOTE];
  }
}

/** Removes what was there before a moment. */
async function lose(topic, at) {
  const { partitions } = await strandline.call("GET", `/v1/topics/${topic}/offsets?at=${new Date(at).toISOString()}`);
  deleteRecords(
    topic,
    partitions.map((partition) => partition.offset),
  );
}

before(async () => {
  loadFlights();
  strandline = await Strandline.start("details");
  const take = (topic, from, options) => strandline.take(topic, start + from * DAY, start + (from + 1) * DAY, options);
  load("parcels", 2, [...parcels()]);
  taken.whole = await take("parcels", 0);
  await lose("parcels", start + DAY + 8 * HOUR);
  taken.lost = await take("parcels", 1, { labels: { team: "post" } });
  taken.late = await take("parcels", 2, { labels: { team: "post" } });
  load("wagons", 1, [...parcels()]);
  await lose("wagons", start + HOUR);
  taken.uncertain = await take("wagons", 0);
  taken.failed = await take("wagons", 0, { on_loss: "fail", capture: "offsets" });
  assert.ok(taken.lost.result.lost_offsets > 0 && taken.late.result.out_of_window_records > 0);
  assert.ok(taken.uncertain.result.uncertain_partitions > 0 && taken.failed.state === "failed");
});
after(stopAll);

const rows = (page) => page.locator("tbody tr");
/** What the table's cells say, of one moment: rows come and go. */
const table = (page) =>
  rows(page).evaluateAll((all) =>
    all.map((row) => [...row.querySelectorAll("td")].map((cell) => cell.innerText.trim().replaceAll(/\s+/g, " "))),
  );
const fact = (page, term) => page.locator(".facts div", { has: page.getByText(term, { exact: true }) }).locator("dd");
const command = (page) => page.locator(".command code").first();
const bodyIn = async (code) => JSON.parse((await code.innerText()).match(/-d '(.*)'/)[1]);
const bodyOf = (page) => bodyIn(command(page));
const again = (page) => page.locator("figure", { hasText: "Asking for it again" }).locator("code");

test("the list says what the API says, and filters as the API does", async () => {
  await withPage(strandline, async (page) => {
    const shown = () =>
      rows(page)
        .locator("a")
        .evaluateAll((all) => all.map((one) => one.getAttribute("href").split("/").at(-1)));
    const shows = (ids) => untilEqual(shown, ids);
    const of = (...names) => names.map((name) => taken[name].id);
    await page.show("/snapshots");
    await shows(of("failed", "uncertain", "late", "lost", "whole"));
    const cells = await rows(page).nth(2).locator("td").allInnerTexts();
    assert.deepEqual(
      [cells[1], cells[3], cells[4]],
      ["parcels", number(taken.late.result.records), `${(taken.late.result.bytes / 1000).toFixed(1)} kB`],
    );
    const words = await page.locator("tbody .status").allInnerTexts();
    assert.deepEqual(words, ["failed", "loss possible", "sealed", "partial loss", "sealed"]);
    await page.getByLabel("Completeness").selectOption("sealed");
    await shows(of("uncertain", "late", "lost", "whole"));
    await page.getByLabel("Up to, UTC").fill(day(2));
    await page.keyboard.press("Enter");
    await shows(of("uncertain", "lost", "whole"));
    await page.getByLabel("Windows from, UTC").fill(`${day(1)}T00:00:00Z`);
    await page.keyboard.press("Enter");
    await shows(of("lost"));
    await page.getByRole("link", { name: "Show all" }).click();
    await shows(of("failed", "uncertain", "late", "lost", "whole"));
    await page.getByRole("checkbox", { name: "failed" }).focus();
    await page.keyboard.press("Space");
    await shows(of("failed"));
    assert.equal(await page.evaluate(() => document.activeElement.value), "failed", "the reader goes on from there");
    await page.getByRole("checkbox", { name: "succeeded" }).check();
    await shows(of("failed", "uncertain", "late", "lost", "whole"));
    await page.getByLabel("Labels").fill("team:post");
    await page.keyboard.press("Enter");
    await shows(of("late", "lost"));
    const line = await command(page).innerText();
    const { items } = JSON.parse(execFileSync("bash", ["-c", `${line} --silent`], { encoding: "utf8" }));
    assert.deepEqual(
      items.map((one) => one.id),
      of("late", "lost"),
    );
  });
});

/** What a row says of a partition; the second cell is a bar. */
function inRow(one) {
  const { start_offset: from, end_offset: to, low_watermark: low, high_watermark: high } = one;
  return [
    String(one.partition),
    "",
    `${number(one.stored_offsets)} of ${number(to - from)}`,
    number(one.records),
    `${number(one.lost_offsets)}${one.start_uncertain ? " perhaps more" : ""}`,
    `${number(from)} – ${number(to)} sealed, Kafka has ${number(low)} – ${number(high)}`,
    windowWords(Date.parse(one.min_timestamp), Date.parse(one.max_timestamp)),
  ];
}

test("a snapshot's partitions are those of the API, bar by bar", async () => {
  await withPage(strandline, async (page) => {
    for (const one of [taken.lost, taken.uncertain]) {
      await page.show(`/snapshots/${one.id}`);
      const { items } = await strandline.call("GET", `/v1/snapshots/${one.id}/partitions`);
      await untilEqual(() => table(page), items.map(inRow));
      for (const partition of items) {
        const bar = page.getByRole("progressbar", { name: `Partition ${partition.partition} stored` });
        const done = Math.floor((100 * partition.stored_offsets) / (partition.end_offset - partition.start_offset));
        assert.equal(await bar.getAttribute("aria-valuenow"), String(done));
      }
    }
    const { items } = await strandline.call("GET", `/v1/snapshots/${taken.lost.id}/partitions`);
    assert.ok(items.some((one) => one.lost_offsets > 0 && one.stored_offsets < one.end_offset - one.start_offset));
  });
});

test("a snapshot's files are those of the API, with what is another window's", async () => {
  // A part of a window that is stored gets the same files, and not all that is in them.
  const part = await strandline.take("parcels", start + 2 * DAY, start + 2 * DAY + 6 * HOUR);
  const shared = [];
  await withPage(strandline, async (page) => {
    for (const one of [taken.late, taken.lost, part]) {
      const { items } = await strandline.call("GET", `/v1/snapshots/${one.id}/files`);
      shared.push(...items.filter((file) => !file.whole && file.records_in_window < file.records));
      await page.show(`/snapshots/${one.id}`);
      const says = (file) => {
        const others = file.whole ? "" : ` of ${number(file.records)}, the others are another window's`;
        const size = file.bytes < 1000 ? `${file.bytes} B` : `${(file.bytes / 1000).toFixed(1)} kB`;
        const partitions = [...new Set(file.segments.map((segment) => segment.partition))];
        return [
          file.url,
          `${number(file.records_in_window)} event${file.records_in_window === 1 ? "" : "s"}${others} · ${size} · ` +
            `partition${file.segments.length === 1 ? "" : "s"} ${partitions.join(", ")} · ` +
            `SHA-256 ${file.sha256.slice(0, 12)}…`,
        ];
      };
      await untilEqual(
        () =>
          page
            .locator(".files li")
            .evaluateAll((all) => all.map((row) => [...row.children].map((part) => part.innerText))),
        items.map(says),
      );
    }
  });
  assert.ok(shared.length > 0, "one of them is shared");
});

test("a snapshot's runs are those of the API, the newest first", async () => {
  const { id } = taken.failed;
  await strandline.call("POST", `/v1/snapshots/${id}/refresh?wait=60`);
  await withPage(strandline, async (page) => {
    await page.show(`/snapshots/${id}`);
    const { items } = await strandline.call("GET", `/v1/snapshots/${id}/runs`);
    const runs = page.locator(".runs > li");
    await until("all runs", async () => (await runs.count()) === items.length);
    assert.deepEqual(
      items.map((one) => one.run),
      [2, 1],
    );
    for (const [place, one] of items.entries()) {
      const said = await runs.nth(place).innerText();
      assert.ok(said.startsWith(`${one.run} failed, 0 events added`), said);
      assert.match(said, /asked for .+, took /);
      // Of the last one the page tells above.
      assert.equal(said.includes(one.error.message) && said.includes("DATA_LOST"), place > 0, said);
    }
    await page.show(`/snapshots/${taken.whole.id}`);
    const { result } = taken.whole;
    await runs.getByText(`succeeded, ${number(result.records_added)} events added`).waitFor();
  });
});

test("what is lost, uncertain, late or wrong is said, and what to do about it", async () => {
  await withPage(strandline, async (page) => {
    await page.show(`/snapshots/${taken.lost.id}`);
    await page.getByText("Not all of the window is here.").waitFor();
    assert.equal(await fact(page, "Lost").innerText(), `${taken.lost.result.lost_offsets} offsets`);
    await page.show(`/snapshots/${taken.uncertain.id}`);
    await page.getByText("Perhaps not all of the window is here.").waitFor();
    await page.getByText(/^In 1 partition nobody looked before retention/).waitFor();
    assert.equal(await fact(page, "Lost").innerText(), "perhaps some");
    await page.locator(".verdict .status.is-uncertain").waitFor();
    await page.show(`/snapshots/${taken.late.id}`);
    const { out_of_window_records: late, records } = taken.late.result;
    await page.getByText(`${late} stored events carry a timestamp outside the window`).waitFor();
    assert.equal(await fact(page, "Events").innerText(), number(records));
    assert.equal(await fact(page, "Lost").innerText(), "nothing");
    assert.deepEqual((await bodyIn(again(page))).labels, { team: "post" }, "and leaves the labels as they are");
    const { items } = await strandline.call("GET", `/v1/snapshots/${taken.late.id}/files`);
    await page
      .getByText(`${number(items[0].records_in_window)} events · `)
      .first()
      .waitFor();
    await page.show(`/snapshots/${taken.failed.id}`);
    await page.getByText("Sent again unchanged, it would fail again.").waitFor();
    const { on_loss, capture } = await bodyIn(again(page));
    assert.deepEqual([on_loss, capture], ["fail", "offsets"], "the same again is the same");
    assert.equal(await fact(page, "If events are lost").innerText(), "the run fails");
    assert.equal(await fact(page, "Stores").innerText(), "offset ranges only");
  });
});

test("an event is text, whatever it holds, and a line can be taken along", async () => {
  await withPage(
    strandline,
    async (page) => {
      await page.show(`/snapshots/${taken.whole.id}`);
      await page.getByRole("button", { name: "Show the first 20" }).click();
      const value = page.locator(".events pre").first();
      assert.equal(await value.innerText(), JSON.stringify(NOTE));
      await page.evaluate(() => navigator.clipboard.writeText("before"));
      const figure = page.locator("figure", { hasText: "This snapshot with curl" });
      await figure.getByRole("button", { name: "Copy" }).click();
      await figure.getByRole("button", { name: "Copied" }).waitFor();
      const copied = await page.evaluate(() => navigator.clipboard.readText());
      assert.equal(copied, await figure.locator("code").innerText());
    },
    { permissions: ["clipboard-read", "clipboard-write"] },
  );
});

test("what is chosen is what is sent, and another choice needs another look", async () => {
  await withPage(strandline, async (page) => {
    await page.show(`/take?topic=parcels&${span(1, 4)}`);
    const look = page.getByRole("button", { name: "Show what would be read" });
    const take = page.getByRole("button", { name: /^Take (the|\d+) snapshot/ });
    const plan = page.getByRole("region", { name: "What would be read" });
    await look.click();
    await plan.waitFor();
    assert.ok(await take.isEnabled());
    await page.getByText("More", { exact: true }).click();
    await page.getByRole("radio", { name: "only the offset ranges" }).check();
    await plan.waitFor({ state: "detached" });
    assert.ok(await take.isDisabled(), "what was looked at is not what would be asked for");
    assert.deepEqual(await bodyOf(page), {
      topic: "parcels",
      window_start: `${day(1)}T00:00:00.000Z`,
      window_end: `${day(4)}T00:00:00.000Z`,
      capture: "offsets",
    });
    await page.getByRole("radio", { name: "the events" }).check();
    await page.getByRole("radio", { name: "let the run fail" }).check();
    assert.equal((await bodyOf(page)).on_loss, "fail");
    assert.equal((await bodyOf(page)).capture, undefined);
    await page.getByRole("radio", { name: "one a day" }).check();
    await page.getByText("The 3 requests").waitFor();
    await look.click();
    await plan.waitFor();
    const looked = page.requests.findLast((request) => request.method() === "POST");
    assert.equal(looked.postDataJSON().on_loss, "fail");
  });
});

test("a plan is that of the API: by partition, with what is stored and what is gone", async () => {
  await withPage(strandline, async (page) => {
    await page.show(`/take?topic=parcels&start=${day(1)}T00:00:00Z&end=${day(3)}T12:00:00Z`);
    const body = await bodyOf(page);
    const plan = await strandline.call("POST", "/v1/snapshots?dry_run=true", { body });
    assert.ok(plan.lost_offsets > 1 && plan.offsets_stored > 1 && plan.offsets_to_read > 1);
    await page.getByRole("button", { name: "Show what would be read" }).click();
    const said =
      `${plan.offsets_to_read} offsets would be read, ${plan.offsets_stored} are stored already, ` +
      `${plan.lost_offsets} are gone for good.`;
    await page.getByText(said).waitFor();
    const shown = await table(page);
    const expected = plan.partitions.map((one) =>
      [one.partition, one.start_offset, one.end_offset, one.offsets_to_read, one.stored_offsets, one.lost_offsets].map(
        number,
      ),
    );
    assert.deepEqual(shown, expected);
  });
});

test("the part of a gap that was clicked can be made the whole", async () => {
  await withPage(strandline, async (page) => {
    await page.show(`/coverage/flights?year=2013&gap=2013-01-05/2013-01-06`);
    const sheet = page.getByRole("dialog", { name: "Fill a gap of flights" });
    assert.equal((await bodyOf(sheet)).window_end, "2013-01-06T00:00:00.000Z");
    await sheet.getByRole("radio", { name: /^the whole gap/ }).check();
    const { window_start: from, window_end: to } = await bodyOf(sheet);
    assert.deepEqual([from, to], ["2013-01-01T00:00:00.000Z", "2014-01-01T00:00:00.000Z"]);
    await sheet.getByText("2013", { exact: false }).first().waitFor();
  });
});

test("the keys of a year, where the clock is not UTC", async () => {
  await withPage(
    strandline,
    async (page) => {
      await page.show("/coverage/flights?year=2013");
      const cell = (date) => page.locator(`a[data-at="${Date.parse(`${date}T00:00:00Z`)}"]`);
      await cell("2013-12-12").focus();
      for (const [key, date, said] of [
        ["Home", "2013-12-09", "9 December 2013"],
        ["End", "2013-12-15", "15 December 2013"],
        ["PageUp", "2013-11-15", "15 November 2013"],
        ["PageDown", "2013-12-15", "15 December 2013"],
        ["ArrowDown", "2013-12-22", "22 December 2013"],
        ["ArrowDown", "2013-12-29", "29 December 2013"],
        ["ArrowRight", "2013-12-30", "30 December 2013"],
        ["ArrowRight", "2013-12-31", "31 December 2013"],
        ["ArrowRight", "2013-12-31", "31 December 2013"],
        ["PageUp", "2013-11-30", "30 November 2013"],
      ]) {
        await page.keyboard.press(key);
        assert.ok((await focused(page)).startsWith(`${said}:`), `${key}: ${await focused(page)} is not ${said}`);
        assert.equal(await cell(date).evaluate((element) => element === document.activeElement), true);
      }
      const monday = await page
        .locator("table", { has: cell("2013-12-09") })
        .locator("tr", { has: cell("2013-12-09") });
      assert.equal(await monday.locator("td").first().innerText(), "9", "a week begins on Monday");
    },
    { timezoneId: "America/New_York" },
  );
});

test("from topic to topic and from month to month", async () => {
  await withPage(strandline, async (page) => {
    await page.show("/coverage");
    await page.waitForURL(/#\/coverage\/parcels$/);
    await page.getByRole("heading", { level: 2, name: "2013" }).waitFor();
    const { stored, missing, lost } = await sums("parcels");
    await page.getByText(`${stored} offsets stored, ${missing} in Kafka not stored, ${lost} offsets lost.`).waitFor();
    await page.getByRole("link", { name: "March 2013, hour by hour" }).click();
    for (const [name, month] of [
      ["Previous month", "February 2013"],
      ["Previous month", "January 2013"],
      ["Next month", "February 2013"],
    ]) {
      await page.getByRole("link", { name }).click();
      await page.getByRole("heading", { level: 2, name: month }).waitFor();
      await page.getByRole("grid", { name: "Windows by day" }).waitFor();
      assert.equal(await focused(page), name, "the reader stays at the link, to go on");
    }
    await page.getByRole("combobox", { name: "topic" }).selectOption("wagons");
    await page.waitForURL(/#\/coverage\/wagons$/);
    await page.getByRole("link", { name: /^1 March 2013: (failed|loss possible)/ }).waitFor();
    // Before and after all snapshots there is time that nobody has asked for, and that is no gap.
    await page.getByRole("link", { name: "31 March 2013: nobody has asked for it" }).waitFor();
  });
});

/** What the coverage of a year comes to. */
async function sums(topic) {
  const query = "from=2013-01-01T00:00:00Z&to=2014-01-01T00:00:00Z";
  const { partitions } = await strandline.call("GET", `/v1/topics/${topic}/coverage?${query}`);
  const length = (ranges) => ranges.reduce((sum, one) => sum + one.end_offset - one.start_offset, 0);
  const sum = (name) => partitions.reduce((total, one) => total + length(one[name]), 0);
  return { stored: sum("stored"), missing: sum("missing"), lost: sum("lost") };
}

test("a bar stands where its hours are, and a day lists what it holds", async () => {
  const [from, upTo] = [start + 3 * DAY + 6 * HOUR, start + 3 * DAY + 9 * HOUR];
  const one = await strandline.take("parcels", from, upTo);
  await withPage(strandline, async (page) => {
    await page.show("/coverage/parcels?year=2013");
    await page.getByRole("link", { name: /^4 March 2013: missing; 12 % of the time held; 1 snapshot/ }).click();
    await page.getByRole("heading", { level: 2, name: "4 March 2013" }).waitFor();
    const bars = page.locator(".timeline .bar");
    const hours = () =>
      bars.evaluateAll((all) =>
        all.map((bar) => {
          const [box, track] = [bar, bar.closest(".track")].map((element) => element.getBoundingClientRect());
          return [box.x - track.x, box.width].map((length) => Math.round((24 * length) / track.width));
        }),
      );
    await untilEqual(hours, [
      [0, 6],
      [6, 3],
      [9, 15],
    ]);
    assert.deepEqual(await table(page), [
      ["Fill 00:00 – 06:00", "missing", ""],
      ["06:00 – 09:00", "sealed", number(one.result.records)],
      ["Fill 09:00 – 24:00", "missing", ""],
    ]);
  });
});

/** What is wrong with wide tables as cards: cells one below the other, each told by its column's heading. */
const notCards = (page) =>
  page.locator(".list.wide tbody tr").evaluateAll((all) =>
    all.flatMap((row) => {
      const headings = [...row.closest("table").querySelectorAll("thead th")].map((one) => one.textContent);
      const cells = [...row.children].filter((cell) => getComputedStyle(cell).display !== "none");
      const boxes = cells.map((cell) => cell.getBoundingClientRect());
      const beside = cells.filter((_, place) => place > 0 && boxes[place].top < boxes[place - 1].bottom);
      const untold = cells.filter((cell) => {
        const [heading, said] = [headings[cell.cellIndex], getComputedStyle(cell, "::before").content];
        const plain = cell.tagName === "TH" || cell.querySelector("a[aria-label]");
        return !plain && (said.length < 3 || !heading.startsWith(said.slice(1, -1)));
      });
      return [
        ...beside.map((cell) => `beside: ${cell.innerText}`),
        ...untold.map((cell) => `untold: ${cell.innerText}`),
      ];
    }),
  );

test("a phone gets a page as wide as it is", async () => {
  await withPage(
    strandline,
    async (page) => {
      for (const place of ["/snapshots", `/snapshots/${taken.lost.id}`, "/coverage/parcels?year=2013", "/topics"]) {
        await page.goto("about:blank");
        await page.show(place);
        await page.locator("h1").waitFor();
        await until("all is there", async () => (await page.locator(".waiting").count()) === 0);
        assert.equal((await measure(page)).overflow, 0, place);
        assert.equal(await page.evaluate(() => innerWidth), 360, place);
        await checkAccess(page, `${place} on a phone`);
        assert.deepEqual(await notCards(page), [], place);
        const days = page.locator(".year a[data-at]");
        const heights = await days.evaluateAll((all) => all.map((day) => day.getBoundingClientRect().height));
        assert.ok(
          heights.every((height) => height >= 40),
          "a finger finds a day",
        );
        const found = [await page.locator(".list.wide tbody tr").count(), heights.length];
        assert.ok(
          found.some((count) => count > 0),
          `${place} has what a phone shows otherwise`,
        );
      }
      await page.show(`/snapshots/${taken.lost.id}`);
      const lost = page.locator("tbody td[data-label=Lost]").first();
      await lost.waitFor();
      const box = await lost.boundingBox();
      assert.ok(box.x >= 0 && box.x + box.width <= 360, "what is lost is on the screen");
    },
    { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true },
  );
});
