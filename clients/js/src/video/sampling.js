/**
 * Which frames of a video make a clip, and which part of each frame.
 *
 * Source: format of scheme `lcve-1`, sections 5.3, 5.4 and 5.5.
 */

import { requireCount } from "../arguments.js";

/** @typedef {import("../settings.js").Preprocess} Preprocess */

/**
 * Frames of every temporal view. A video that is too short repeats its last frame.
 *
 * @param {number} total frames of the video, at least 1
 * @param {Preprocess} preprocess
 * @param {number} [views] temporal views
 * @returns {number[][]}
 * @throws {import("../errors.js").ArgumentError} a number is not one
 */
export function frameIndices(total, preprocess, views = 1) {
  requireCount(total, "the frames of the video", "pass track.total");
  requireCount(views, "the temporal views", "pass a number, such as 1");
  const plan = preprocess.sampling === "uniform" ? uniform : kinetics;
  return Array.from({ length: views }, (_, view) =>
    plan(total, preprocess, view, views).map((index) => Math.min(index, total - 1)),
  );
}

/**
 * Frames of a stream that one clip covers.
 *
 * @param {Preprocess} preprocess
 * @returns {number}
 */
export function windowFrames({ frames, stride }) {
  return (frames - 1) * stride + 1;
}

/**
 * Height and width of a frame after resizing.
 *
 * @param {Preprocess} preprocess
 * @param {number} height of the upright frame
 * @param {number} width
 * @returns {[number, number]}
 */
export function resizedSize({ size, shortSide }, height, width) {
  if (size !== null) return [size[0], size[1]];
  if (shortSide === null) return [height, width];
  const short = Math.min(height, width);
  return [Math.floor((height * shortSide) / short), Math.floor((width * shortSide) / short)];
}

/**
 * First row and column of every spatial view.
 *
 * @param {number} height of the resized frame
 * @param {number} width
 * @param {Preprocess} preprocess
 * @param {number} [views] spatial views
 * @returns {[number, number][]}
 */
export function cropOffsets(height, width, { crop, cropRounding }, views = 1) {
  const slack = [height - crop[0], width - crop[1]];
  const axis = slack[0] > slack[1] ? 0 : 1;
  return Array.from({ length: views }, (_, view) => {
    const share = views === 1 ? [1, 2] : [view, views - 1];
    /** @param {number} at */
    const offset = (at) => divided(slack[at] * (at === axis ? share[0] : 1), at === axis ? share[1] : 2, cropRounding);
    return [offset(0), offset(1)];
  });
}

/** @type {(total: number, preprocess: Preprocess, view: number, views: number) => number[]} */
function kinetics(total, preprocess, view, views) {
  const slack = Math.max(total - windowFrames(preprocess), 0);
  const start = Math.floor(views === 1 ? slack / 2 : (slack * view) / (views - 1));
  return Array.from({ length: preprocess.frames }, (_, index) => start + index * preprocess.stride);
}

/** @type {(total: number, preprocess: Preprocess, view: number, views: number) => number[]} */
function uniform(total, { frames }, view, views) {
  const share = 2 * view + 1;
  return Array.from({ length: frames }, (_, index) => Math.floor(((2 * views * index + share) * total) / (2 * views * frames)));
}

/**
 * A fraction as an integer, rounded down, or to the nearest with half to even.
 *
 * @param {number} numerator
 * @param {number} denominator
 * @param {string} rounding
 */
function divided(numerator, denominator, rounding) {
  const down = Math.floor(numerator / denominator);
  const twice = 2 * (numerator - down * denominator);
  const up = twice > denominator || (twice === denominator && down % 2 === 1);
  return rounding === "nearest" && up ? down + 1 : down;
}
