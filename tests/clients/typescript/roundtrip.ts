// A round trip with openapi-fetch and the types of openapi-typescript.
//
// Usage: roundtrip.js URL DAY, where DAY is a date of the topic `flights`.
// STRANDLINE_TOKEN is sent if it is set.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./strandline.js";

type Snapshot = components["schemas"]["Snapshot"];

const UNKNOWN = "00000000-0000-4000-8000-000000000000";
const [url, day] = process.argv.slice(2);
assert(url && day, "usage: roundtrip.js URL DAY");
const token = process.env.STRANDLINE_TOKEN;
const client = createClient<paths>({
  baseUrl: url,
  headers: token ? { Authorization: `Bearer ${token}` } : {},
});
const start = new Date(`${day}T00:00:00Z`);
const end = new Date(start.getTime() + 86_400_000);
const window = { window_start: start.toISOString(), window_end: end.toISOString() };

async function lookAtSnapshot(): Promise<void> {
  const asked = await client.POST("/v1/snapshots", {
    body: { topic: "flights", ...window, labels: { client: "typescript" } },
  });
  assert.equal(asked.response.status, 202);
  // With `dry_run`, the answer would be a plan.
  assert(asked.data && "id" in asked.data);
  const path = { id: asked.data.id };
  const { data: snapshot } = await client.GET("/v1/snapshots/{id}", {
    params: { path, query: { wait: 60 } },
  });
  assert.equal(snapshot?.state, "succeeded");
  assert.equal(snapshot.completeness, "sealed");
  const records: number = snapshot.result?.records ?? 0;
  assert(records > 0);

  const page = await client.GET("/v1/snapshots", {
    params: { query: { state: ["succeeded", "failed"], label: ["client:typescript"] } },
  });
  assert.deepEqual(page.data?.items.map((item: Snapshot) => item.id), [snapshot.id]);
  const partitions = await client.GET("/v1/snapshots/{id}/partitions", { params: { path } });
  assert.equal(partitions.data?.items.reduce((sum, item) => sum + item.records, 0), records);
  const files = await client.GET("/v1/snapshots/{id}/files", { params: { path } });
  assert.equal(files.data?.items.reduce((sum, item) => sum + item.records_in_window, 0), records);
  const events = await client.GET("/v1/snapshots/{id}/events", {
    params: { path, query: { limit: 2 } },
    parseAs: "text",
  });
  assert.equal(events.data?.trimEnd().split("\n").length, 2);

  const topics = await client.GET("/v1/topics");
  assert(topics.data?.items.some((topic) => topic.topic === "flights"));
  const coverage = await client.GET("/v1/topics/{topic}/coverage", {
    params: { path: { topic: "flights" }, query: { from: window.window_start, to: window.window_end } },
  });
  assert.equal(coverage.data?.complete, true);
}

async function lookAtPlan(): Promise<void> {
  const answer = await client.POST("/v1/snapshots", {
    params: { query: { dry_run: true } },
    body: { topic: "flights", ...window },
  });
  assert(answer.data && "offsets_stored" in answer.data);
  assert.equal(answer.data.offsets_to_read, 0);
  assert(answer.data.offsets_stored > 0);
}

async function beRefused(): Promise<void> {
  const empty = { window_start: window.window_start, window_end: window.window_start };
  const refused = await client.POST("/v1/snapshots", { body: { topic: "flights", ...empty } });
  assert.equal(refused.response.status, 422);
  assert.equal(refused.error?.code, "WINDOW_INVALID");
  const unknown = await client.GET("/v1/snapshots/{id}", { params: { path: { id: UNKNOWN } } });
  assert.equal(unknown.error?.code, "NOT_FOUND");
  const failed = await client.POST("/v1/snapshots", {
    params: { query: { wait: 60 } },
    body: { topic: "not-there", ...window },
  });
  assert(failed.data && "state" in failed.data);
  assert.equal(failed.data.state, "failed");
  assert.equal(failed.data.error?.code, "TOPIC_NOT_FOUND");
  const result = await client.GET("/v1/snapshots/{id}/result", {
    params: { path: { id: failed.data.id } },
  });
  assert.equal(result.error?.code, "SNAPSHOT_FAILED");
  assert.equal(result.error.error?.code, "TOPIC_NOT_FOUND");
}

await lookAtSnapshot();
await lookAtPlan();
await beRefused();
