/**
 * Milliseconds of one clip of 16×224×224×3: to encrypt it, by scheme and layout, and of `lcve-dct-1` also to pack, unpack
 * and decrypt it. The median of 20, after 5 that do not count; times of the processor are less disturbed by other work.
 *
 * node bench/encrypt.js [CLIP], where CLIP has the values of a clip; by default a pattern that moves
 */

import { readFileSync } from "node:fs";
import { Binding, Client, Geometry, LAYOUTS, QUALITIES, SecurityKey } from "../src/index.js";
import { pack, unpack } from "../src/dct/packing.js";

const RUNS = 20;
const WARM_UP = 5;

const head = Uint8Array.from([...new TextEncoder().encode("LCVEKEY1"), ...crypto.getRandomValues(new Uint8Array(32))]);
const checksum = new Uint8Array(await crypto.subtle.digest("SHA-256", head)).subarray(0, 8);
const key = await SecurityKey.read(Uint8Array.from([...head, ...checksum]));
const geometry = Geometry.parse("16x224x224x3/2x16x16");
const clip = process.argv[2] ? new Uint8Array(readFileSync(process.argv[2])) : pattern();

function pattern() {
  const [, height, width] = geometry.clipShape;
  return Uint8Array.from({ length: geometry.clipValues }, (_, index) => {
    const [frame, row, column] = [Math.floor(index / (3 * width * height)), Math.floor(index / (3 * width)) % height, Math.floor(index / 3) % width];
    return 128 + 60 * Math.sin((row + 2 * frame) / 9) + 50 * Math.cos((column * row) / 900 + frame / 5) + ((index * 7919) % 13);
  });
}

/**
 * @param {string} name
 * @param {() => unknown} work
 */
async function measure(name, work) {
  /** @type {{wall: number, processor: number}[]} */
  const times = [];
  for (let run = 0; run < WARM_UP + RUNS; run++) {
    const [start, used] = [performance.now(), process.cpuUsage()];
    await work();
    const { user, system } = process.cpuUsage(used);
    times.push({ wall: performance.now() - start, processor: (user + system) / 1000 });
  }
  const median = (/** @type {"wall" | "processor"} */ kind) => {
    const sorted = times.slice(WARM_UP).map((time) => time[kind]).sort((one, other) => one - other);
    return ((sorted[RUNS / 2 - 1] + sorted[RUNS / 2]) / 2).toFixed(1);
  };
  console.log(`${name}: ${median("wall")} ms, ${median("processor")} ms of the processor`);
}

/**
 * @param {string} scheme
 * @param {import("../src/binding.js").Layout} layout
 */
async function open(scheme, layout) {
  const binding = new Binding({ scheme, keyId: key.keyId, salt: "0".repeat(32), geometry, layout });
  const settings = /** @type {any} */ ({ binding, classes: [], hiddenLabels: false });
  const begun = performance.now();
  const client = await Client.open(settings, key);
  console.log(`${scheme}, orders: ${(performance.now() - begun).toFixed(1)} ms, once`);
  return client;
}

for (const layout of LAYOUTS) {
  const client = await open("lcve-1", layout);
  await measure(`lcve-1, encrypt, ${layout}`, () => client.encrypt(clip));
}
const client = await open("lcve-dct-1", "cubes");
for (const [quality, step] of Object.entries(QUALITIES)) {
  const encrypted = client.encrypt(clip, { step });
  const { values } = encrypted.coefficients;
  const packed = pack(values, step, geometry);
  console.log(`lcve-dct-1, ${quality}: ${packed.length} bytes`);
  await measure("  encrypt and pack", () => client.encrypt(clip, { step }).bytes());
  await measure("  encrypt", () => client.encrypt(clip, { step }));
  await measure("  pack", () => pack(values, step, geometry));
  await measure("  unpack", () => unpack(packed, geometry, 1));
  await measure("  decrypt", () => client.decrypt(encrypted));
}
