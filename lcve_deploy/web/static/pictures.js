/** Draw frames of clips: plain, encrypted and decrypted side by side. */

/** @typedef {import("./service.js").Pair} Pair */
/** @typedef {import("./client/geometry.js").Geometry} Geometry */

const ZERO = 128;

/** The canvases of the page. */
export class Pictures {
  /** Made once: Firefox refuses to be asked again. @type {Record<string, OffscreenCanvasRenderingContext2D>} */
  #contexts = {};
  /** @type {Pair | undefined} */
  #pair;

  /** @param {Record<string, OffscreenCanvas>} canvases by name */
  use(canvases) {
    const entries = Object.entries(canvases).map(([name, canvas]) => [name, canvas.getContext("2d")]);
    this.#contexts = Object.fromEntries(entries);
  }

  /**
   * Show this clip from now on.
   *
   * @param {Pair} pair
   */
  take(pair) {
    this.#pair = pair;
  }

  /** @param {number} frame of the clip */
  show(frame) {
    if (!this.#pair) return;
    const { plain, clip, decrypted } = this.#pair;
    const { geometry } = clip.binding;
    this.draw("plain", clipFrame(plain, geometry, frame), geometry);
    this.draw("encrypted", encryptedFrame(clip, frame), geometry);
    this.draw("decrypted", clipFrame(decrypted(), geometry, frame), geometry);
  }

  /**
   * @param {string} name of the canvas
   * @param {ArrayLike<number>} frame `[H, W, C]`; rounded, and limited to 0 to 255
   * @param {Geometry} geometry
   */
  draw(name, frame, { clipShape: [, height, width, channels] }) {
    const image = new ImageData(width, height);
    for (let pixel = 0; pixel < height * width; pixel++) {
      const source = pixel * channels;
      for (let channel = 0; channel < 3; channel++) image.data[4 * pixel + channel] = frame[source + Math.min(channel, channels - 1)];
      image.data[4 * pixel + 3] = 255;
    }
    const context = this.#contexts[name];
    const { canvas } = context;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    context.putImageData(image, 0, 0);
  }
}

/**
 * One frame of an encrypted clip, as the server sees it. Coefficients are drawn where the values of their cube would be:
 * grey is zero.
 *
 * @param {import("./client/clip.js").EncryptedClip} clip
 * @param {number} frame
 * @returns {ArrayLike<number>} `[H, W, C]`
 */
export function encryptedFrame(clip, frame) {
  const { geometry, layout, packed } = clip.binding;
  if (packed) {
    const { values, steps } = clip.coefficients;
    return cubesFrame(values, geometry, frame, (value) => ZERO + value * steps[0]);
  }
  return layout === "cubes" ? cubesFrame(clip.values, geometry, frame) : clipFrame(clip.values, geometry, frame);
}

/**
 * One frame of a clip.
 *
 * @template {Uint8Array | Float32Array} Values
 * @param {Values} clip `[T, H, W, C]`
 * @param {Geometry} geometry
 * @param {number} frame
 * @returns {Values} `[H, W, C]`
 */
export function clipFrame(clip, geometry, frame) {
  const size = geometry.clipValues / geometry.clipShape[0];
  return /** @type {Values} */ (clip.subarray(frame * size, (frame + 1) * size));
}

/**
 * One frame of a clip whose cubes are put together in the order in which they come.
 *
 * @param {Uint8Array | Int16Array} cubes `[N, L]`
 * @param {Geometry} geometry
 * @param {number} frame
 * @param {(value: number) => number} [shade] grey level of a value
 * @returns {Uint8ClampedArray} `[H, W, C]`
 */
export function cubesFrame(cubes, geometry, frame, shade = (value) => value) {
  const [frames] = geometry.clipShape;
  const [depth] = geometry.cube;
  const inSlab = (geometry.cubes * depth) / frames;
  const inFrame = geometry.values / depth;
  const offsets = geometry.cubeOffsets();
  const places = geometry.valueOffsets();
  const start = (frame * geometry.clipValues) / frames;
  const picture = new Uint8ClampedArray(geometry.clipValues / frames);
  const slab = Math.floor(frame / depth) * inSlab;
  for (let cube = slab; cube < slab + inSlab; cube++) {
    const row = cube * geometry.values;
    for (let value = (frame % depth) * inFrame; value < ((frame % depth) + 1) * inFrame; value++) {
      picture[offsets[cube] + places[value] - start] = shade(cubes[row + value]);
    }
  }
  return picture;
}
