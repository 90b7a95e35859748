/** Times of the last clips, by step. */

const MAX_TIMES = 200;

/** Rows of the table of times. */
export class Times {
  /** @type {Map<string, number[]>} */
  #steps = new Map();

  /**
   * @param {string} step
   * @param {number} milliseconds
   */
  add(step, milliseconds) {
    const times = this.#steps.get(step) ?? [];
    times.push(milliseconds);
    if (times.length > MAX_TIMES) times.shift();
    this.#steps.set(step, times);
  }

  /** @returns {{name: string, last: number, p50: number, p95: number}[]} */
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
