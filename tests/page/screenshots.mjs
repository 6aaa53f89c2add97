// The pictures of docs/page.md, of a service that has everything (scripts/test-page.sh --screenshots).

import { mkdirSync, writeFileSync } from "node:fs";
import { deflateSync, inflateSync } from "node:zlib";
import { Strandline, stopAll, withPage } from "./harness.mjs";
import { ODD, fill, fillOthers } from "./world.mjs";

const FOLDER = `${process.env.PAGE_ROOT}/docs/page`;

/** The same picture in fewer bytes: its data packed as tightly as can be, nothing else kept. */
function tight(png) {
  const chunks = [];
  for (let at = 8; at < png.length;) {
    const length = png.readUInt32BE(at);
    chunks.push({ type: png.toString("latin1", at + 4, at + 8), data: png.subarray(at + 8, at + 8 + length) });
    at += length + 12;
  }
  const pixels = inflateSync(Buffer.concat(chunks.filter((chunk) => chunk.type === "IDAT").map((chunk) => chunk.data)));
  const data = { IHDR: chunks[0].data, IDAT: deflateSync(pixels, { level: 9, memLevel: 9 }), IEND: Buffer.alloc(0) };
  const parts = [png.subarray(0, 8)];
  for (const [type, body] of Object.entries(data)) {
    const named = Buffer.concat([Buffer.from(type, "latin1"), body]);
    const frame = Buffer.alloc(8);
    frame.writeUInt32BE(body.length, 0);
    frame.writeUInt32BE(crc(named), 4);
    parts.push(frame.subarray(0, 4), named, frame.subarray(4));
  }
  return Buffer.concat(parts);
}

function crc(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
  }
  return (sum ^ 0xffffffff) >>> 0;
}

const strandline = await Strandline.start("world");
try {
  fillOthers();
  const world = await fill(strandline);
  const day = (number) => new Date(world.day(number)).toISOString().slice(0, 10);
  const query = `topic=orders&window_from=${day(ODD.lost)}T00:00:00Z&window_to=${day(ODD.lost)}T12:00:00Z`;
  const lost = (await strandline.call("GET", `/v1/snapshots?${query}`)).items[0];
  const year = `/coverage/orders?year=${day(ODD.gap[0]).slice(0, 4)}`;
  mkdirSync(FOLDER, { recursive: true });
  const take = (name, place, options = {}, prepare = async () => {}) =>
    withPage(
      strandline,
      async (page) => {
        await page.show(place);
        await page.locator("h1").waitFor();
        await page.waitForFunction(() => !document.querySelector(".waiting"));
        await prepare(page);
        const picture = await page.screenshot({ fullPage: options.fullPage ?? false });
        writeFileSync(`${FOLDER}/${name}.png`, tight(picture));
      },
      { viewport: { width: 1080, height: 680 }, timezoneId: "UTC", ...options },
    );
  await take("coverage", year, { viewport: { width: 1080, height: 700 } });
  await take("coverage-dark", `/coverage/orders?month=${day(43).slice(0, 7)}`, {
    colorScheme: "dark",
    viewport: { width: 1080, height: 1060 },
  });
  await take("fill", `${year}&gap=${day(ODD.gap[0])}/${day(ODD.gap[0] + 1)}`, {}, async (page) => {
    await page.getByRole("button", { name: "Show what would be read" }).click();
    await page.getByText(/offsets would be read/).waitFor();
  });
  await take("snapshot", `/snapshots/${lost.id}`, { viewport: { width: 1080, height: 820 } });
  await take("topics", "/topics", { viewport: { width: 1080, height: 620 } });
  await take("phone", year, { viewport: { width: 375, height: 760 } });
} finally {
  await stopAll();
}
