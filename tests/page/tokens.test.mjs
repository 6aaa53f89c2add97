// Who may look: no token, wrong ones, ones that stop counting while somebody looks.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Strandline, checkAccess, loadFlights, load, sql, stopAll, untilEqual, withPage } from "./harness.mjs";

let strandline;
const tokens = {};
const REFUSED = { expect: [/401 \(Unauthorized\)/] };
const NIGHT = [Date.parse("2013-01-05T00:00:00Z"), Date.parse("2013-01-05T06:00:00Z")];

before(async () => {
  loadFlights();
  load("private", 1, [[Date.parse("2013-01-05T01:00:00Z"), null, { secret: true }]]);
  strandline = await Strandline.start("tokens");
  for (const name of ["writer", "old", "gone"]) tokens[name] = strandline.token(name, "--scope", "write");
  tokens.reader = strandline.token("reader", "--scope", "read");
  tokens.narrow = strandline.token("narrow", "--scope", "write", "--topic", "fl*");
  for (const topic of ["flights", "private"]) await strandline.take(topic, ...NIGHT, { token: tokens.writer });
});
after(stopAll);

const form = (page) => page.locator(".sign-in");
async function enter(page, token, keep = false) {
  await page.getByLabel("Token", { exact: true }).fill(token);
  if (keep) await page.getByLabel("Keep it in this browser").check();
  await page.keyboard.press("Enter");
}

test("without a token it asks for one, once, in the API's words", async () => {
  await withPage(
    strandline,
    async (page) => {
      await page.show("/snapshots");
      await form(page)
        .getByRole("alert")
        .filter({ hasText: "a token is needed: send Authorization: Bearer TOKEN" })
        .waitFor();
      await untilEqual(() => page.evaluate(() => document.activeElement.name), "token");
      assert.equal(
        await page.evaluate(() => document.activeElement.type),
        "password",
        "nobody reads it over a shoulder",
      );
      await page.context().addCookies([{ name: "other", value: "service", url: strandline.url }]);
      assert.equal(await page.locator("tbody tr").count(), 0);
      await checkAccess(page, "asking for a token");
      await enter(page, tokens.writer);
      await page.locator("tbody tr").nth(1).waitFor();
      assert.equal(await form(page).count(), 0);
      await page.show("/coverage/flights?year=2013");
      await page.locator(".year").waitFor();
      const sent = page.requests.filter((request) => request.url().includes("/v1/") && request.headers().authorization);
      assert.ok(
        sent.length > 0 && sent.every((request) => request.headers().authorization === `Bearer ${tokens.writer}`),
      );
      assert.ok(
        page.requests.every((request) => !request.url().includes(tokens.writer)),
        "never in an address",
      );
      for (const request of sent) assert.equal((await request.allHeaders()).cookie, undefined, "nor any cookie");
      assert.doesNotMatch(await page.content(), new RegExp(tokens.writer));
      assert.match(await page.locator("body").innerText(), /Forget the token/);
    },
    REFUSED,
  );
});

test("it is kept for the tab, or for the browser if one likes, and forgotten on request", async () => {
  await withPage(
    strandline,
    async (page) => {
      const stored = () => page.evaluate(() => [sessionStorage.length, localStorage.length]);
      await page.show("/snapshots");
      await enter(page, tokens.reader);
      await page.locator("tbody tr").first().waitFor();
      assert.deepEqual(await stored(), [1, 0]);
      await page.reload();
      await page.locator("tbody tr").first().waitFor();
      await page.getByRole("button", { name: "Forget the token" }).click();
      await form(page).waitFor();
      assert.deepEqual(await stored(), [0, 0]);
      await enter(page, tokens.reader, true);
      await page.locator("tbody tr").first().waitFor();
      assert.deepEqual(await stored(), [0, 1]);
    },
    REFUSED,
  );
});

test("a wrong, an expired and a revoked token are told apart", async () => {
  sql("tokens", "UPDATE tokens SET expires_at = now() - interval '1 s' WHERE name = 'old'");
  strandline.revoke("gone");
  await withPage(
    strandline,
    async (page) => {
      for (const [token, said] of [
        ["strandline_nonsense", /this token is not known/],
        [tokens.old, /the token old has expired at \d{4}-/],
        [tokens.gone, /the token gone was revoked at \d{4}-/],
      ]) {
        await page.show("/topics");
        await form(page).waitFor();
        await enter(page, token);
        await form(page).getByRole("alert").filter({ hasText: said }).waitFor();
        await page.getByRole("heading", { name: "Another token is needed" }).waitFor();
      }
      await enter(page, tokens.writer);
      await page.locator("tbody tr").first().waitFor();
    },
    REFUSED,
  );
});

test("one that is revoked while somebody looks takes nothing off the screen", async () => {
  const token = strandline.token("brief", "--scope", "read");
  await withPage(
    strandline,
    async (page) => {
      await page.show("/snapshots");
      await enter(page, token);
      await page.locator("tbody tr").nth(1).waitFor();
      strandline.revoke("brief");
      await form(page).getByRole("alert").filter({ hasText: "the token brief was revoked" }).waitFor();
      assert.equal(await page.locator("tbody tr").count(), 2, "what was there is there");
      await enter(page, tokens.reader);
      await form(page).waitFor({ state: "detached" });
      assert.equal(await page.locator("tbody tr").count(), 2);
    },
    REFUSED,
  );
});

test("what an older token was refused says nothing of the newer one", async () => {
  const token = strandline.token("former", "--scope", "write");
  await withPage(
    strandline,
    async (page) => {
      await page.show("/take?topic=flights&start=2013-01-06T00:00:00Z&end=2013-01-07T00:00:00Z");
      await enter(page, token);
      let release;
      const held = new Promise((resolve) => (release = resolve));
      await page.route("**/v1/snapshots?dry_run=true", async (route) => {
        await held;
        await route.continue();
      });
      await page.getByRole("button", { name: "Show what would be read" }).click();
      strandline.revoke("former");
      await page.getByRole("button", { name: "Forget the token" }).click();
      await page.show("/snapshots");
      await enter(page, tokens.writer);
      await page.locator("tbody tr").first().waitFor();
      const answered = page.waitForResponse((response) => response.url().endsWith("dry_run=true"));
      release();
      assert.equal((await answered).status(), 401);
      await page.show("/topics");
      await page.locator(".topics tbody tr").first().waitFor();
      assert.equal(await form(page).count(), 0);
    },
    REFUSED,
  );
});

test("a token that may only read is told so when it asks for more", async () => {
  await withPage(
    strandline,
    async (page) => {
      await page.show("/take?topic=flights&start=2013-01-06T00:00:00Z&end=2013-01-07T00:00:00Z");
      await enter(page, tokens.reader);
      await page.getByText('-H "authorization: Bearer $STRANDLINE_TOKEN"').waitFor();
      await page.getByRole("button", { name: "Show what would be read" }).click();
      await page.getByText("the token reader has the scope read, this needs write").waitFor();
      assert.ok(await page.getByRole("button", { name: "Take the snapshot" }).isDisabled());
    },
    { expect: [...REFUSED.expect, /403 \(Forbidden\)/] },
  );
});

test("topics that a token may not have are not there", async () => {
  await withPage(
    strandline,
    async (page) => {
      await page.show("/topics");
      await enter(page, tokens.narrow);
      await page.locator("tbody tr").first().waitFor();
      assert.deepEqual(await page.locator("tbody th").allInnerTexts(), ["flights"]);
      await page.show("/snapshots");
      await page.getByRole("heading", { level: 1, name: "Snapshots" }).waitFor();
      await page.locator("tbody tr").first().waitFor();
      assert.doesNotMatch(await page.locator("main").innerText(), /private/);
      await page.show("/coverage/private?year=2013");
      await page.getByText("the token narrow may not have the topic private").waitFor();
    },
    { expect: [...REFUSED.expect, /403 \(Forbidden\)/] },
  );
});
