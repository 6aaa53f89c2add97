// How the page is served, and what it is made of.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { after, before, test } from "node:test";
import prettier from "prettier";
import { Strandline, stopAll } from "./harness.mjs";

let strandline;
before(async () => {
  strandline = await Strandline.start("served", { WORKERS: "0" });
});
after(stopAll);

const ask = (path, headers = {}, method = "GET") => fetch(strandline.url + path, { method, headers });
const BROWSER = { accept: "text/html,application/xhtml+xml,*/*;q=0.8" };

test("a browser gets the page, under a strict policy", async () => {
  const response = await ask("/", BROWSER);
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("content-type"), "text/html; charset=utf-8");
  const policy = response.headers.get("content-security-policy");
  assert.match(policy, /^default-src 'none'; script-src 'self'; style-src 'self';/);
  assert.match(policy, /frame-ancestors 'none'/);
  assert.doesNotMatch(policy, /unsafe|\*|data:|https?:/);
  assert.equal(response.headers.get("x-content-type-options"), "nosniff");
  assert.equal(response.headers.get("referrer-policy"), "no-referrer");
  assert.equal(response.headers.get("vary"), "accept");
  assert.doesNotMatch(await response.text(), /<style|style=|<script>|https?:/);
});

test("what was seen is not sent again", async () => {
  for (const path of ["/", "/page/app.js", "/page/vendor/preact.js", "/page/style.css"]) {
    const first = await ask(path, BROWSER);
    const tag = first.headers.get("etag");
    assert.match(tag, /^"[0-9a-f]{16}"$/);
    assert.equal(first.headers.get("cache-control"), "no-cache");
    const again = await ask(path, { ...BROWSER, "if-none-match": tag });
    assert.equal(again.status, 304, path);
    assert.equal(await again.text(), "");
    assert.equal((await ask(path, { ...BROWSER, "if-none-match": '"other"' })).status, 200, path);
  }
});

test("every part has its type, and HEAD is GET without a body", async () => {
  for (const [path, type] of [
    ["/page/app.js", "text/javascript"],
    ["/page/calendar.css", "text/css"],
    ["/page/icon.svg", "image/svg+xml"],
  ]) {
    const response = await ask(path, {}, "HEAD");
    assert.equal(response.status, 200, path);
    assert.ok(response.headers.get("content-type").startsWith(type), path);
    assert.equal(await response.text(), "");
  }
});

test("a terminal gets a hint", async () => {
  const text = execFileSync("curl", ["--silent", "--fail-with-body", `${strandline.url}/`], { encoding: "utf8" });
  assert.match(text, /\/v1\/snapshots/);
  assert.doesNotMatch(text, /</);
});

test("all else is a problem document, as everywhere", async () => {
  for (const [method, path, status, code] of [
    ["GET", "/page/none.js", 404, "NOT_FOUND"],
    ["GET", "/page/", 404, "NOT_FOUND"],
    ["GET", "/page/../Cargo.toml", 404, "NOT_FOUND"],
    ["GET", "/page/%2e%2e/%2e%2e/etc/passwd", 404, "NOT_FOUND"],
    ["GET", "/index.html", 404, "NOT_FOUND"],
    ["GET", "/snapshots", 404, "NOT_FOUND"],
    ["POST", "/", 405, "METHOD_NOT_ALLOWED"],
    ["DELETE", "/page/app.js", 405, "METHOD_NOT_ALLOWED"],
  ]) {
    const response = await ask(path, BROWSER, method);
    assert.equal(response.status, status, `${method} ${path}`);
    assert.equal(response.headers.get("content-type"), "application/problem+json");
    assert.equal((await response.json()).code, code, `${method} ${path}`);
    if (status === 405) assert.equal(response.headers.get("allow"), "GET, HEAD");
  }
});

test("page/vendor is the library that the lock file names", () => {
  const [ours, theirs] = [`${process.env.PAGE_ROOT}/page/vendor`, `${process.env.PAGE_STATE}/vendor`];
  assert.deepEqual(readdirSync(ours).sort(), readdirSync(theirs).sort());
  for (const name of readdirSync(theirs)) {
    assert.equal(
      readFileSync(`${ours}/${name}`, "utf8"),
      readFileSync(`${theirs}/${name}`, "utf8"),
      `${name}: scripts/test-page.sh --vendor`,
    );
  }
});

test("the sources are formatted", async () => {
  const root = process.env.PAGE_ROOT;
  const options = JSON.parse(readFileSync(`${root}/tests/page/prettier.json`, "utf8"));
  for (const folder of ["page", "tests/page"]) {
    for (const name of readdirSync(`${root}/${folder}`).filter((one) => /\.(js|mjs|html)$/.test(one))) {
      const filepath = `${root}/${folder}/${name}`;
      assert.ok(await prettier.check(readFileSync(filepath, "utf8"), { ...options, filepath }), `${folder}/${name}`);
    }
  }
});
