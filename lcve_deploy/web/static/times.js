/** Figures of the last clips, by step: times or bytes. */

/** @typedef {{name: string, last: number, p50: number, p95: number}} Row */

const MAX_TIMES = 200;

/** Rows of a table of figures. */
export class Times {
  /** @type {Map<string, number[]>} */
  #steps = new Map();

  /**
   * @param {string} step
   * @param {number} figure
   */
  add(step, figure) {
    const times = this.#steps.get(step) ?? [];
    times.push(figure);
    if (times.length > MAX_TIMES) times.shift();
    this.#steps.set(step, times);
  }

  /** @returns {Row[]} */
  rows() {
    return [...this.#steps].map(([name, times]) => {
      const sorted = times.toSorted((one, other) => one - other);
      return { name, last: times[times.length - 1], p50: quantile(sorted, 0.5), p95: quantile(sorted, 0.95) };
    });
  }
}

/**
 * @param {number[]} sorted
 * @param {number} share
 */
function quantile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)];
}
