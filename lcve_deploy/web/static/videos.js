/** Which clips the page takes from a file. */

import { frameIndices, windowFrames } from "./client/video/index.js";

export { openVideo, readClips } from "./client/video/index.js";

/** @typedef {import("./client/settings.js").Preprocess} Preprocess */

/**
 * @param {number} total frames of the video
 * @param {Preprocess} preprocess
 * @param {boolean} whole all windows, not only the clip that `lcve run` takes
 * @returns {number[][]} frames of each clip
 */
export function windowPlan(total, preprocess, whole) {
  const span = windowFrames(preprocess);
  if (!whole || total < span) return frameIndices(total, preprocess);
  return Array.from({ length: Math.floor(total / span) }, (_, window) =>
    Array.from({ length: preprocess.frames }, (_, index) => window * span + index * preprocess.stride),
  );
}
