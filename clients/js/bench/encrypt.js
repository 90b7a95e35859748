/** Milliseconds to encrypt one clip of 16×224×224×3, by layout: the median of 20, after 5 that do not count. */

import { Cipher, Geometry, LAYOUTS, SecurityKey } from "../src/index.js";

const RUNS = 20;
const WARM_UP = 5;

const head = Uint8Array.from([...new TextEncoder().encode("LCVEKEY1"), ...crypto.getRandomValues(new Uint8Array(32))]);
const checksum = new Uint8Array(await crypto.subtle.digest("SHA-256", head)).subarray(0, 8);
const key = await SecurityKey.read(Uint8Array.from([...head, ...checksum]));
const geometry = Geometry.parse("16x224x224x3/2x16x16");
const clip = Uint8Array.from({ length: geometry.clipValues }, (_, index) => (index * 7919) % 251);

const begun = performance.now();
const cipher = await Cipher.create(key, { salt: new Uint8Array(16), geometry });
console.log(`orders: ${(performance.now() - begun).toFixed(1)} ms, once`);
for (const layout of LAYOUTS) {
  const times = Array.from({ length: WARM_UP + RUNS }, () => {
    const start = performance.now();
    cipher.encrypt(clip, layout);
    return performance.now() - start;
  });
  const sorted = times.slice(WARM_UP).sort((one, other) => one - other);
  console.log(`${layout}: ${((sorted[RUNS / 2 - 1] + sorted[RUNS / 2]) / 2).toFixed(1)} ms`);
}
