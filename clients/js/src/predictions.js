/**
 * Interpret logits as probabilities of exclusive classes, of independent classes, or as plain values.
 *
 * Source: format of scheme `lcve-1`, section 4.4.
 */

/** @typedef {"single_label_classification" | "multi_label_classification" | "regression"} ProblemType */
/** @type {readonly ProblemType[]} */
export const PROBLEM_TYPES = Object.freeze(["single_label_classification", "multi_label_classification", "regression"]);

/**
 * One class or output of a clip, with either a probability or a value: the mean over the views.
 *
 * @typedef {{index: number, name: string, probability?: number, value?: number}} Prediction
 */

/** @typedef {(logits: Float64Array) => Float64Array} Score */
/** @type {Record<ProblemType, Score>} */
const SCORES = { single_label_classification: softmax, multi_label_classification: sigmoid, regression: (logits) => logits };

/**
 * Softmax of the logits of one view.
 *
 * @param {Float64Array} logits
 * @returns {Float64Array}
 */
export function softmax(logits) {
  const largest = logits.reduce((one, other) => Math.max(one, other), -Infinity);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const sum = powers.reduce((one, other) => one + other, 0);
  return powers.map((power) => power / sum);
}

/**
 * Logistic function of each logit, without overflow for large logits.
 *
 * @param {Float64Array} logits
 * @returns {Float64Array}
 */
export function sigmoid(logits) {
  return logits.map((logit) => {
    const small = Math.exp(-Math.abs(logit));
    return (logit >= 0 ? 1 : small) / (1 + small);
  });
}

/**
 * The most probable classes of a video, or all outputs of a regression in their order.
 *
 * @param {readonly Float64Array[]} views logits of each view, in the plain order
 * @param {readonly string[]} names
 * @param {ProblemType} problemType
 * @param {number} top number of classes
 * @returns {Prediction[]}
 */
export function predictions(views, names, problemType, top) {
  const scores = views.map(SCORES[problemType]);
  const means = names.map((_, index) => scores.reduce((sum, view) => sum + view[index], 0) / scores.length);
  if (problemType === "regression") return means.map((value, index) => ({ index, name: names[index], value }));
  const best = means.map((_, index) => index).sort((one, other) => means[other] - means[one] || one - other);
  return best.slice(0, top).map((index) => ({ index, name: names[index], probability: means[index] }));
}
