/** Sampling and crops against the vectors of the format; the readers of containers against damaged files. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { LcveError } from "../src/index.js";
import { cropOffsets, frameIndices, openVideo, resizedSize } from "../src/video/index.js";
import { Scaler } from "../src/video/scale.js";

const VECTORS = JSON.parse(await readFile(new URL("../../../docs/reference/vectors.json", import.meta.url), "utf8"));
const VIDEO = new URL("../../../examples/moving_digits/videos/circles.mp4", import.meta.url);

/** @param {Record<string, unknown>} given @returns {any} */
const preprocess = (given) => ({
  ...{ frames: 16, stride: 4, sampling: "kinetics", shortSide: null, size: null, resample: "bilinear", crop: [1, 1], cropRounding: "nearest" },
  ...given,
});

test("frames are those of the vectors", () => {
  for (const { total, views, indices, ...given } of VECTORS.sampling) assert.deepEqual(frameIndices(total, preprocess(given), views), indices);
});

test("sizes are those of the vectors", () => {
  for (const { height, width, resized, short_side: shortSide = null, size = null } of VECTORS.resizing) {
    assert.deepEqual(resizedSize(preprocess({ shortSide, size }), height, width), resized);
  }
});

test("crops are those of the vectors", () => {
  for (const { height, width, crop, views, offsets, crop_rounding: cropRounding = "nearest" } of VECTORS.crops) {
    assert.deepEqual(cropOffsets(height, width, preprocess({ crop, cropRounding }), views), offsets);
  }
});

test("orientations are those of the vectors", async () => {
  const { cropUpright, fromMatrix } = await import("../src/video/orientation.js");
  for (const { matrix: [a, b, c, d], stored, shown } of VECTORS.orientations) {
    const pixels = Uint8ClampedArray.from(stored.flat().flatMap((/** @type {number} */ value) => [value, value, value]));
    const crop = { top: 0, left: 0, height: shown.length, width: shown[0].length };
    const upright = cropUpright(pixels, [stored.length, stored[0].length], fromMatrix([a, b, 0, c, d, 0, 0, 0, 1]), crop);
    assert.deepEqual([...upright.filter((_, index) => index % 3 === 0)], shown.flat());
  }
});

test("a filter keeps a plain picture, and its weights add up to one", () => {
  for (const resample of ["nearest", "bilinear", "bicubic", "lanczos"]) {
    for (const to of /** @type {[number, number][]} */ ([[5, 9], [24, 31], [7, 7]])) {
      const plane = new Scaler(resample, [12, 20], to).resize(new Uint8Array(240).fill(77), { offset: 0, stride: 20 });
      assert.equal(plane.length, to[0] * to[1]);
      for (const value of plane) assert.ok(Math.abs(value - 77) < 1e-3);
    }
  }
});

test("bilinear is the triangle filter that widens", () => {
  const plane = new Scaler("bilinear", [1, 8], [1, 2]).resize(Uint8Array.of(0, 0, 0, 0, 160, 0, 0, 0), { offset: 0, stride: 8 });
  assert.deepEqual([...plane].map(Math.round), [15, 25]); // centres at 1.5 and 5.5, radius 4; edges repeated
});

test("the track of an MP4 file has every frame once, in the order in which they are shown", async () => {
  const track = await openVideo(new Uint8Array(await readFile(VIDEO)));
  assert.equal(track.total, 16);
  assert.deepEqual([...track.frames].sort((one, other) => one - other), Array.from({ length: 16 }, (_, index) => index));
  assert.match(track.stream.codec.codec, /^avc1\./);
  assert.deepEqual([track.stream.width, track.stream.height], [64, 64]);
  assert.deepEqual(track.stream.colours, { matrix: "smpte170m", fullRange: false });
});

test("damaged files are one error, whatever is damaged", async () => {
  const whole = new Uint8Array(await readFile(VIDEO));
  let random = 1;
  const next = (/** @type {number} */ bound) => (random = (random * 48271) % 0x7fffffff) % bound;
  for (let round = 0; round < 400; round++) {
    const damaged = whole.slice(0, round % 4 ? whole.length : next(whole.length));
    for (let change = 0; change < 1 + (round % 5); change++) damaged[next(damaged.length)] = next(256);
    try {
      const track = await openVideo(damaged);
      assert.ok(track.total > 0);
    } catch (error) {
      assert.ok(error instanceof LcveError, String(/** @type {Error} */ (error).stack));
    }
  }
});

test("a file of another kind is one error that says what to do", async () => {
  for (const text of ["", "RIFF1234AVI LIST", "GIF89a......", "\x1a\x45\xdf\xa3\x01\x02\x03\x04\x05"]) {
    await assert.rejects(openVideo(Uint8Array.from(text, (letter) => letter.charCodeAt(0))), LcveError);
  }
});
