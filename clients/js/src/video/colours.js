/**
 * Planes of a decoded frame to RGB. Luma and chroma are resized separately.
 *
 * Source: format of scheme `lcve-1`, section 5.4.
 */

import { VideoError } from "../errors.js";
import { Scaler } from "./scale.js";

/** @typedef {{offset: number, stride: number}} PlaneLayout bytes */
/** @typedef {{matrix: string | null, fullRange: boolean | null}} ColourSpace */
/**
 * @typedef {object} Picture a decoded frame in memory
 * @property {string} format as WebCodecs names it, such as `I420`
 * @property {number} width of the visible part
 * @property {number} height
 * @property {Uint8Array} data
 * @property {readonly PlaneLayout[]} layout
 * @property {ColourSpace} colours
 */

/** Red and blue weights of luma. @type {Record<string, [number, number]>} */
const MATRICES = { bt709: [0.2126, 0.0722], smpte170m: [0.299, 0.114], bt470bg: [0.299, 0.114], "bt2020-ncl": [0.2627, 0.0593] };
/** Formats with planes: horizontal and vertical subsampling of chroma, and bits. @type {Record<string, [number, number, number]>} */
const PLANAR = {
  ...{ I420: [2, 2, 8], I420A: [2, 2, 8], I422: [2, 1, 8], I422A: [2, 1, 8], I444: [1, 1, 8], I444A: [1, 1, 8], NV12: [2, 2, 8] },
  ...{ I420P10: [2, 2, 10], I422P10: [2, 1, 10], I444P10: [1, 1, 10], I420P12: [2, 2, 12], I422P12: [2, 1, 12], I444P12: [1, 1, 12] },
};
/** Formats with packed pixels: where red, green and blue are. @type {Record<string, [number, number, number]>} */
const PACKED = { RGBA: [0, 1, 2], RGBX: [0, 1, 2], BGRA: [2, 1, 0], BGRX: [2, 1, 0] };

/** Turns pictures into resized RGB; keeps the tables of the last size. */
export class Converter {
  /** @type {Map<string, Scaler>} */
  #scalers = new Map();

  /** @param {string} resample */
  constructor(resample) {
    this.resample = resample;
  }

  /**
   * @param {Picture} picture
   * @param {[number, number]} to height, width, of the stored picture
   * @returns {Uint8ClampedArray} `[height, width, 3]`
   * @throws {VideoError} the format is not known
   */
  rgb(picture, to) {
    if (picture.format in PACKED) return this.#packed(picture, to);
    if (picture.format in PLANAR) return this.#planar(picture, to);
    throw new VideoError(`expected a frame of a known pixel format, received ${picture.format}`, {
      hint: "convert the video to 8-bit 4:2:0",
    });
  }

  /**
   * @param {[number, number]} from
   * @param {[number, number]} to
   */
  #scaler(from, to) {
    const name = `${from} ${to}`;
    let scaler = this.#scalers.get(name);
    if (scaler === undefined) {
      if (this.#scalers.size > 4) this.#scalers.clear();
      scaler = new Scaler(this.resample, from, to);
      this.#scalers.set(name, scaler);
    }
    return scaler;
  }

  /**
   * @param {Picture} picture
   * @param {[number, number]} to
   */
  #packed({ format, width, height, data, layout: [{ offset, stride }] }, to) {
    const rgb = new Uint8ClampedArray(to[0] * to[1] * 3);
    PACKED[format].forEach((place, channel) => {
      const plane = this.#scaler([height, width], to).resize(data, { offset: offset + place, stride, step: 4 });
      for (let pixel = 0; pixel < plane.length; pixel++) rgb[3 * pixel + channel] = plane[pixel];
    });
    return rgb;
  }

  /**
   * @param {Picture} picture
   * @param {[number, number]} to
   */
  #planar({ format, width, height, data, layout, colours }, to) {
    const [across, down, bits] = PLANAR[format];
    const bytes = bits > 8 ? 2 : 1;
    const values = bytes === 2 ? new Uint16Array(data.buffer, data.byteOffset, data.length >> 1) : data;
    /** @type {[number, number]} */
    const chroma = [Math.ceil(height / down), Math.ceil(width / across)];
    /** @type {[number, number]} */
    const half = [to[0], Math.ceil(to[1] / 2)];
    /** @param {number} index @param {number} [step] @param {number} [shift] */
    const colour = (index, step = 1, shift = 0) =>
      this.#scaler(chroma, half).resize(values, { offset: layout[index].offset / bytes + shift, stride: layout[index].stride / bytes, step });
    const luma = this.#scaler([height, width], to).resize(values, { offset: layout[0].offset / bytes, stride: layout[0].stride / bytes });
    const [blue, red] = format === "NV12" ? [colour(1, 2), colour(1, 2, 1)] : [colour(1), colour(2)];
    return toRgb({ luma, blue, red }, to, colours, 2 ** (bits - 8));
  }
}

/**
 * Add luma and colour. As FFmpeg does by default, colour has half the width, and each part is rounded down.
 *
 * @param {{luma: Float32Array, blue: Float32Array, red: Float32Array}} planes
 * @param {[number, number]} size height, width
 * @param {ColourSpace} colours BT.601 and limited range if none is named
 * @param {number} unit values of one level of 8 bits
 * @returns {Uint8ClampedArray}
 */
function toRgb({ luma, blue, red }, [height, width], { matrix, fullRange }, unit) {
  const [kr, kb] = MATRICES[matrix ?? "smpte170m"] ?? MATRICES.smpte170m;
  const [black, gain, colourGain] = fullRange ? [0, 1, 1] : [16, 255 / 219, 255 / 224];
  const toRed = 2 * (1 - kr) * colourGain;
  const toBlue = 2 * (1 - kb) * colourGain;
  const [greenFromRed, greenFromBlue] = [(toRed * kr) / (1 - kr - kb), (toBlue * kb) / (1 - kr - kb)];
  const half = Math.ceil(width / 2);
  const rgb = new Uint8ClampedArray(3 * width * height);
  for (let pixel = 0, at = 0; pixel < luma.length; pixel++, at += 3) {
    const row = Math.floor(pixel / width);
    const place = row * half + ((pixel - row * width) >> 1);
    const light = Math.floor((luma[pixel] / unit - black) * gain);
    const cb = blue[place] / unit - 128;
    const cr = red[place] / unit - 128;
    rgb[at] = light + Math.floor(toRed * cr);
    rgb[at + 1] = light + Math.floor(-greenFromRed * cr) + Math.floor(-greenFromBlue * cb);
    rgb[at + 2] = light + Math.floor(toBlue * cb);
  }
  return rgb;
}
